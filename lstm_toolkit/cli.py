"""The command line, `lstm-toolkit`: each public function of the package as a command."""

import importlib.util
import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from lstm_toolkit import versions
from lstm_toolkit.conversion.choices import CHOICES
from lstm_toolkit.runtime.attended import attended
from lstm_toolkit.terminal import (
    check_output,
    is_stdout,
    own_stderr,
    show,
    show_text,
    silent_stderr,
    stages,
    write,
)
from lstm_toolkit.usage import Command, examples_of, in_options, reporting_errors

PATH, COUNT = click.Path(path_type=Path), click.IntRange(min=1)
model_argument = click.argument("model", type=PATH)
output_option = click.option(
    "-o", "--output", type=PATH, required=True, help="The .tflite file to write; - is standard output."
)
samples_option = click.option(
    "--representative-dataset",
    type=PATH,
    metavar="X.npz",
    help="Samples of the inputs: for each an array [samples, ...] under its name, as numpy.savez writes them.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


class _Commands(click.Group):
    """The commands, each of which imports what it needs; what is not there is an error of one line."""

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        """Runs the command of `args`, or of the command line of this process, in a child then."""
        return attended(run) if args is None else super().main(args, *rest, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except ImportError as error:
            raise click.ClickException(
                f"this command needs a package that cannot be imported ({error}); install lstm_toolkit again, with "
                "what it depends on"
            ) from error

    command_class = Command


@click.group(
    cls=_Commands, epilog=examples_of("lstm-toolkit"), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="lstm_toolkit")
@click.pass_context
def main(context: click.Context) -> None:
    """LSTMs from Keras to TensorFlow Lite's fused ops, exactly."""
    # A file of Keras is the same for all of its backends; on which one its user runs it matters for the comparison.
    backend = os.environ.get("KERAS_BACKEND")
    compares = context.invoked_subcommand == "convert" and backend in ("jax", "torch")
    if not compares or importlib.util.find_spec(str(backend)) is None:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    if said := versions.warning():
        click.echo(f"Warning: {said}", err=True)


def run() -> Any:
    """Runs the command of the command line in this process, and ends it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return click.Group.main(main)


class _OneOrTwo(click.Choice):
    """A choice, or two with a comma between them."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The choice, or a pair."""
        both = tuple(super(_OneOrTwo, self).convert(each, param, ctx) for each in value.split(",", 1))
        return both if len(both) > 1 else both[0]


def _choice(name: str, help: str, kind: type[click.Choice] = click.Choice, **options: Any) -> Any:
    """An option of `convert` with the values that `Request` takes."""
    values = kind([value for value in CHOICES[name] if value is not None])
    return click.option("--" + name.replace("_", "-"), type=values, help=help, show_default=True, **options)


@main.command()
@model_argument
@output_option
@click.option("--batch-size", type=COUNT, help="Fixes the batch; 1 where the model leaves it open.")
@click.option("--time-steps", type=COUNT, help="Fixes the time where the model leaves it open.")
@_choice("lowering", "Whether layers become fused ops or plain ones, which need no variable tensors.", default="fused")
@click.option("--max-error", type=float, help="With --lowering auto: the relative error that int8 weights may cause.")
@click.option("--time-budget", type=float, default=30.0, show_default=True, help="Seconds for --lowering auto.")
@_choice("caches", "For --lowering auto: calls between other work, or in a row.", default="cold")
@_choice("state", "What a call starts from: zero, where the last one ended, or inputs of the file.", default="auto")
@_choice("bidirectional", "Whether the two directions of a layer become one op.", default="fused")
@_choice("quantization", "int8 weights (dynamic), float16 weights; with samples int8, or int8 and int16.")
@samples_option
@_choice("io_dtype", "Of inputs and outputs; int8,float32 of inputs alone.", _OneOrTwo, default="float32")
@_choice("target", "The runtime that the file is for, which settles the forms of the layers.")
@click.option("--time-major", is_flag=True, help="Sequences in the file are [time, batch, ...].")
@_choice("on_unsupported", "What to do with a recurrent layer that cannot be fused exactly.", default="raise")
@click.option("--verify/--no-verify", default=True, help="Compare the file with the model on random inputs.")
@click.option("--progress/--no-progress", default=None, help="Show the stages; by default on a terminal alone.")
@json_option
def convert(
    model: Path,
    output: Path,
    *,
    representative_dataset: Path | None,
    progress: bool | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Converts MODEL, every LSTM to one fused op or to plain ops.

    MODEL is a .keras or .h5 file of Keras 3, or of tf_keras if that is installed, or the folder of a SavedModel that
    was exported as fusable, which is code that runs when it is loaded. With KERAS_BACKEND=jax or torch in the
    environment, the file is compared with the model on that backend.
    """
    from lstm_toolkit.conversion.convert import convert as convert_model
    from lstm_toolkit.quantization.sample_files import load_samples

    with reporting_errors(), stages(shown=progress), silent_stderr():
        check_output(output)
        if representative_dataset is not None:
            options["representative_dataset"] = load_samples(representative_dataset)
        conversion = convert_model(model, **options)
        write(conversion.tflite, output)
    value = {"output": str(output), "size": len(conversion.tflite)} | conversion.report.to_dict()
    text = in_options(f"{output}: {conversion}", main.commands["convert"])
    show(value, text, as_json=as_json, beside=output)


@main.command()
@model_argument
@output_option
@click.option(
    "--form", type=click.Choice(["unrolled", "loop"]), default="unrolled", show_default=True, help="Over time."
)
@click.option("--steps-per-turn", type=COUNT, help="Of a loop.")
@json_option
def lower(model: Path, output: Path, form: str, steps_per_turn: int | None, *, as_json: bool) -> None:
    """Writes the fused recurrent ops of the .tflite file MODEL as plain ops, which need no variable tensors.

    A file without such ops is written as it is.
    """
    from lstm_toolkit.inspection.read import inspect as inspect_model
    from lstm_toolkit.passes.plain.lower import lower as lower_model
    from lstm_toolkit.tflite import files

    with reporting_errors():
        data = files.read_bytes(model)
        lowered = lower_model(data, form=form, steps_per_turn=steps_per_turn)
        ops = inspect_model(lowered).ops
        write(lowered, output)
    told = ", ".join(f"{name} {count}" for name, count in sorted(ops.items()))
    text = f"{output}: {told}" if lowered != data else f"{output}: no fused recurrent op was there; it is {model} again"
    value = {"output": str(output), "size": len(lowered), "changed": lowered != data, "ops": dict(ops)}
    show(value, text, as_json=as_json, beside=output)


@main.command()
@model_argument
@json_option
def inspect(model: Path, *, as_json: bool) -> None:
    """Shows what is in the .tflite file MODEL."""
    from lstm_toolkit.inspection.read import inspect as inspect_model

    with reporting_errors():
        summary = inspect_model(model)
    show(summary.to_dict(), str(summary), as_json=as_json)


@main.command()
@model_argument
@_choice("target", "Also look for what it lacks.")
@click.option("--run", is_flag=True, help="Also run the file on the target, and compare.")
@json_option
def diagnose(model: Path, target: str | None, *, run: bool, as_json: bool) -> None:
    """Looks for faults in MODEL, a .tflite, .keras or .h5 file.

    The exit code is 3 where an error or a warning was found, and 0 otherwise.
    """
    from lstm_toolkit.doctor.diagnose import diagnose as diagnose_model

    with reporting_errors(), silent_stderr():
        found = diagnose_model(model, target=target, run=run)
    show(found.to_dict(), _in_commands(str(found)), as_json=as_json)
    if any(finding.severity != "note" for finding in found):
        raise SystemExit(3)


@main.command()
@model_argument
@output_option
@click.option("--code", "codes", multiple=True, help="Mend only this fault; may be given more than once.")
@click.option(
    "--keep", multiple=True, help="Leave this fault, or the op at this place, alone; may be given repeatedly."
)
@_choice("target", "Also mend what it lacks.")
@json_option
def repair(
    model: Path, output: Path, codes: tuple[str, ...], keep: tuple[str, ...], target: str | None, *, as_json: bool
) -> None:
    """Mends the faults of the .tflite file MODEL that can be mended without its source."""
    from lstm_toolkit.doctor.repair import repair as repair_model

    with reporting_errors():
        repaired = repair_model(model, codes=codes or None, keep=keep, target=target)
        write(repaired.tflite, output)
    value = {"output": str(output)} | repaired.to_dict()
    show(value, _in_commands(f"{output}: {repaired}"), as_json=as_json, beside=output)


@main.command()
@model_argument
@click.option(
    "-o", "--output", type=PATH, help="The picture to write: .svg, .png or .pdf; - is standard output, an SVG."
)
@click.option("--gate", type=click.Choice(["input", "forget", "cell", "output"]), help="The gate to follow.")
@click.option("--node", type=click.IntRange(min=0), default=0, show_default=True, help="Which LSTM of the file.")
def plot(model: Path, output: Path | None, gate: str | None, node: int) -> None:
    """Shows how the weights of an LSTM in the .tflite file MODEL are split by gate: as text, or as a picture."""
    kind = ".svg" if is_stdout(output) else output.suffix if output else ""
    if output is not None and kind not in (".svg", ".png", ".pdf"):
        raise click.BadParameter("the picture must be a .svg, .png or .pdf file", param_hint="--output")
    from lstm_toolkit.tflite import files

    with reporting_errors():
        data = files.read_bytes(model)
        if output is None:
            from lstm_toolkit.gate_pictures.layout import gate_layout

            show_text(str(gate_layout(data, node=node)))
            return
        from lstm_toolkit.gate_pictures.figure import plot_gates

        figure = plot_gates(data, gate=gate, node=node)
        picture = io.BytesIO()
        figure.savefig(picture, format=kind[1:])
        write(picture.getvalue(), output)
    show_text(f"{output}: {figure.alt}", err=is_stdout(output))


@main.command()
@model_argument
@click.option("-o", "--output", type=PATH, required=True, help="The folder for NAME.h and NAME.cc, or for a project.")
@click.option("--name", default="model", show_default=True, help="Of the array, or of the project.")
@click.option("--run/--no-run", default=True, help="Look for the smallest tensor arena (needs tflite-micro).")
@click.option(
    "--project", type=click.Choice(["esp-idf", "arduino", "generic"]), help="Write a project to flash instead."
)
@samples_option
@json_option
def export(model: Path, output: Path, representative_dataset: Path | None, *, as_json: bool, **options: Any) -> None:
    """Writes the .tflite file MODEL as a C array, and says what TensorFlow Lite Micro needs to run it.

    With --project, the folder becomes a project to flash, with the commands in its README. It runs the file on a board,
    on some of the samples or on random inputs, and compares what comes out with what came out here.
    """
    from lstm_toolkit.micro import micro_report, save_c_array, save_project
    from lstm_toolkit.quantization.sample_files import load_samples

    run, name, project = options["run"], options["name"], options["project"]
    if project and not run:
        raise click.UsageError("--project measures the arena, so leave --no-run out")
    if representative_dataset and not project:
        raise click.UsageError("--representative-dataset is for --project; pass both, or neither")
    with reporting_errors():
        if project:
            samples = load_samples(representative_dataset) if representative_dataset else None
            report = save_project(model, output, project=project, name=name, representative_dataset=samples)
            paths = [output]
        else:
            report = micro_report(model, run=run)
            paths = [*save_c_array(model, output, name)]
    told = ", ".join(map(str, paths))
    show({"output": list(map(str, paths))} | report.to_dict(), f"{told}\n\n{report}", as_json=as_json)


@main.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=PATH)
@click.option("--runs", type=COUNT, default=50, show_default=True, help="Rounds in which all are timed.")
@click.option("--warmup", type=click.IntRange(min=0), default=10, show_default=True, help="Untimed calls before.")
@click.option("--threads", type=COUNT, default=1, show_default=True, help="Threads an interpreter has.")
@click.option("--memory", is_flag=True, help="Also measure peak memory, in a process a file.")
@click.option("--csv", "csv_file", type=PATH, help="Also write the figures to this file; - is standard output.")
@json_option
def bench(models: tuple[Path, ...], threads: int, csv_file: Path | None, *, as_json: bool, **options: Any) -> None:
    """Times the .tflite files MODEL side by side on random inputs; ratios are to the first."""
    from lstm_toolkit.benchmarking.benchmark import benchmark

    with reporting_errors(click.ClickException), own_stderr(), silent_stderr():
        if csv_file is not None:
            check_output(csv_file)
        result = benchmark(models, num_threads=threads, **options)
        if csv_file is not None:
            write(result.to_csv().encode(), csv_file)
    show(result.to_dict(), str(result), as_json=as_json, beside=csv_file)


@main.command()
@json_option
def environment(*, as_json: bool) -> None:
    """Shows which versions are installed and which were tested, and which packages are missing.

    The exit code is 3 where something that is always needed is missing, or is older or newer than what was tested.
    """
    from lstm_toolkit.environment import environment as environment_here

    here = environment_here()
    show(here.to_dict(), str(here), as_json=as_json)
    if not here.is_tested:
        raise SystemExit(3)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("message", nargs=-1, required=True)
@json_option
def explain(message: tuple[str, ...], *, as_json: bool) -> None:
    """Says what MESSAGE of TensorFlow, Keras or LiteRT means for an LSTM, and what mends it.

    MESSAGE is what was printed, or a few words that say what is wrong; - is standard input. The exit code is 1 where
    nothing like it is known.
    """
    from lstm_toolkit.symptoms.search import explain as explain_message
    from lstm_toolkit.symptoms.search import last_of

    found = explain_message(last_of(sys.stdin.buffer) if message == ("-",) else " ".join(message))
    text = "\n\n\n".join(map(str, found)) or "Nothing like it is known; run lstm-toolkit diagnose FILE on the file."
    show({"symptoms": [each.to_dict() for each in found]}, text, as_json=as_json)
    if not found:
        raise SystemExit(1)


def _in_commands(text: str) -> str:
    """What findings advise, in the words of the commands that do it."""
    return in_options(in_options(text, main.commands["convert"]), main.commands["repair"])
