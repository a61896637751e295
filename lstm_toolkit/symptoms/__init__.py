"""What people paste into a search box: messages and symptoms of the stock tools, and what mends each."""
