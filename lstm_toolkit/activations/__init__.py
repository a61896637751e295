"""What the gates of a trained LSTM do on real inputs."""
