"""Every message of the package is met by an entry here, whose remedies are followed, or has a reason not to be."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

import tests.remedies
from tests.helpers.refusals import PACKAGE, Message, Refusal, messages

OTHER_TESTS = {
    "holds Python objects, which could run code": "quantization/test_sample_files.py::test_objects_become_numbers",
    "is no .npz file of NumPy": "quantization/test_sample_files.py::test_other_files",
    "has no array [samples, ...] under": "quantization/test_sample_files.py::test_other_files",
    "cannot be imported with {}": "sources/test_keras_files.py::test_a_backend_that_is_not_there",
    "was written by Keras {}, which Keras 3 cannot read": "sources/test_keras_files.py::test_older_files_that_keras_3_",
    "needs code that is not in the file": "sources/test_keras_files.py::test_code_in_a_file_of_keras_2_does_not_run",
    "is not a model that Keras can load": "sources/test_keras_files.py::test_a_damaged_hdf5_file",
    "has no model in it, but at most the weights": "sources/test_keras_files.py::test_weights_alone_are_no_model",
    "{} members, more than {}; save it again": "sources/test_keras_files_from_strangers.py::test_members_that_keras",
    "which is there twice or leads out of it": "sources/test_keras_files_from_strangers.py::test_members_that_keras",
    "in a compression that Keras does not use": "sources/test_keras_files_from_strangers.py::test_members_that_keras",
    "bytes and has others; save it again": "sources/test_keras_files_from_strangers.py::test_a_member_has_the_size",
    "which leads elsewhere": "sources/test_keras_files_from_strangers.py::test_weights_that_are_elsewhere",
    "seconds to load; if you trust": "sources/test_keras_files_from_strangers.py::test_time_has_a_limit",
    "ends the process that loads it": "sources/test_keras_files_from_strangers.py::test_a_process_that_ends",
    "draws random numbers": "sources/test_reference.py::test_without_training_it_draws_none",
    "has a forward of its own": "sources/test_bare_weights.py::test_",
    "the file does not store the shape of its input": "tflite/test_shapes.py::test_",
    "let the model begin behind the layer": "runtime/test_random_inputs.py::test_",
    "no lowering is left to choose from": "conversion/test_fastest.py::test_",
    "this command needs a package that cannot be imported": "test_cli.py::test_",
    "the picture must be a .svg, .png or .pdf file": "test_cli.py::test_plot",
    "there is no writable folder": "test_cli.py::test_an_output_that_cannot_be_written",
    "cannot write {}: {}": "test_cli.py::test_",
    "a project overwrites nothing; name a new folder": "test_micro_projects.py::test_nothing_is_overwritten",
    "Micro does not compute what LiteRT does": "test_micro_projects.py::test_a_micro_that_computes_something_else",
    "measures the arena, so leave --no-run out": "test_micro_projects.py::test_options_that_do_not_go_together",
    "is for --project; pass both, or neither": "test_micro_projects.py::test_options_that_do_not_go_together",
    "peak memory cannot be measured": "benchmarking/test_benchmark.py::test_peak_memory",
    "CompiledModel cannot run this model": "runtime/test_compiled.py::test_a_custom_op_is_refused_with_its_name",
    "have one name in {}; write the file with different na": "runtime/test_strange_files.py::test_two_inputs_of_one_",
    "belongs to the process that made it, and this one was forked": "runtime/test_isolated.py::test_a_fork_leaves_the_",
    "has no LSTM layer whose weights could be shown": "panels/test_gates.py::test_all_lstms_of_a_model",
    "steps take the stock converter minutes": "panels/test_subjects.py::test_many_steps_are_not_unrolled",
    "cannot be built with unroll=True": "panels/test_subjects.py::test_a_layer_that_cannot_be_built_again",
    "has no fused LSTM op; pass the model that it": "panels/test_subjects.py::test_what_the_refusals_advise",
    "expected a Keras 3 model, its path or a .tflite": "panels/test_subjects.py::test_what_the_refusals_advise",
    "does not know its inputs; pass": "panels/test_subjects.py::test_what_the_refusals_advise",
    "which the panel could compare": "panels/test_subjects.py::test_what_the_refusals_advise",
    "is stateful, so that a call changes it": "panels/test_subjects.py::test_what_the_refusals_advise",
    "; choose other sizes": "panels/test_subjects.py::test_sizes_that_a_model_does_not_take",
    "for the panel to compare it": "panels/test_subjects.py::test_what_the_refusals_advise",
    "a .tflite file has one layout": "panels/test_subjects.py::test_what_the_refusals_advise",
    "calls a recurrent layer once a step, so": "conversion/test_other_backends.py::test_on_tensorflow_explicit_states",
    "was never called; pass a keras.Input": "conversion/test_other_backends.py::test_what_is_refused",
    "cannot be called on symbolic inputs": "conversion/test_other_backends.py::test_what_is_refused",
    "give its class a get_config with": "conversion/test_other_backends.py::test_what_is_refused",
    "; define it, with a name, in a module": "conversion/test_other_backends.py::test_what_is_refused",
    "calls no recurrent layer, so": "sources/test_torch_modules.py::test_what_",
    "is called on a PackedSequence": "sources/test_torch_modules.py::test_what_",
    "has its dropout on, so": "sources/test_torch_modules.py::test_what_",
    "is converted by litert-torch, which is not": "sources/test_torch_modules.py::test_without_litert_torch",
    "is a module of TorchScript": "sources/test_torch_modules.py::test_what_",
    "cannot be copied, which keeps it": "sources/test_torch_modules.py::test_what_",
    "torch.export cannot trace": "sources/test_torch_modules.py::test_what_",
    "carries its state from call to call, and plain ops cannot; pass": "sources/test_torch_modules.py::test_what_",
    "so that one call goes on from where another ended; pass": "sources/test_torch_modules.py::test_what_",
    "cannot become a fused op: there is none for a GRU": "sources/test_torch_modules.py::test_what_",
    "cannot be called with the example inputs": "sources/test_torch_modules.py::test_what_",
    "needs example inputs, which fix": "sources/test_torch_modules.py::test_what_",
    "beside tensors, which a file cannot": "sources/test_torch_modules.py::test_what_",
    "litert-torch ended its own process": "sources/test_torch_modules.py::test_a_process_that_ends",
    "draws random numbers ({})": "sources/test_torch_modules.py::test_what_",
    "is a file of PyTorch, which can hold": "sources/test_torch_modules.py::test_an_exported_program",
    "this Runner was interrupted in a call": "runtime/test_isolated.py::test_an_interrupted_call_ends_the_process",
}
"""Messages whose remedies other tests follow: what is constant of them, and where."""

WITHOUT_REMEDY = {
    "exercises/": "hints of exercises, which tests/exercises goes through one by one",
    "passes/loops/": "reasons why a loop of a file stays one, beside the remedy that the doctor has for it",
    "passes/unrolled/": "reasons why the steps of a file stay, beside the remedy that the doctor has for it",
    "runtime/targets.py:why_not_lstm": "reasons in a report or a finding, which has the remedy",
    "runtime/targets.py:why_not_int16_lstm": "reasons in a report, why a layer is plain ops",
    "runtime/trial.py:": "reasons in a finding, which has the remedy",
    "runtime/worker.py:": "reasons in other messages, which have the remedy",
    "sources/keras_layers.py:_tried": "is caught: the layer is called step by step then",
    "sources/cell_calls.py:why_not": "reasons in a report, why a cell is plain ops",
    "conversion/fastest.py:_check_steps": "a reason in the table that lowering=auto chose from",
    "conversion/parity.py:compared": "a reason in other messages, which have the remedy",
    "conversion/parity.py:_of_source": "a reason in other messages, which have the remedy",
    "conversion/parity.py:_error": "reasons in other messages, which have the remedy",
    "tflite/": "what is damaged in a file",
    "inspection/read.py:": "what is damaged in a file",
    "__init__.py:": "an attribute that is not there",
    "process_state.py:__get__": "an attribute that is not there",
    "benchmarking/subjects.py:subjects": "the name of the model, before a reason that has the remedy",
    "quantization/int8.py:_prepare": "the name of the layer, before a reason that has the remedy",
    "sources/keras_layers.py:call": "the name of the layer, before a reason that has the remedy",
    "sources/torch_modules.py:_exported: {}module.": "the attribute, for a message that has the remedy",
    "sources/torch_modules.py:_refusal": "litert-torch's own message, passed on",
    "sources/other_backends.py:_why_not_importable": "reasons in another message, which has the remedy",
    "conversion/other_backends.py:_asked": "another process of the user's shows where his code ends it",
    "stock/worker.py:_ask": "the worker's own message, passed on",
    "stock/converter.py:run_converter": "the converter's own message, passed on",
    "runtime/runner.py:_refusals": "the runtime's own message, passed on",
    "runtime/runner.py:_run": "the runtime's own message, passed on",
    "micro.py:micro_report": "the runtime's own message, passed on",
    "projects/recording.py:_first_with_numbers: TensorFlow Lite Micro cann": "the runtime's own message, passed on",
    "codelab.py:on_micro": "the runtime's own message, passed on",
    "codelab.py:litert_torch_conversion": "the converter's own message, passed on",
    "codelab.py:needs_torch": "the command that installs what is missing",
    "inspection/netron.py:": "the command that installs what is missing",
    "widgets/__init__.py:": "the command that installs what is missing",
    "conversion/target.py:first_right": "cannot happen",
    "conversion/pipeline.py:_layers_of_model: layers {} did not": "cannot happen, as far as is known",
    "passes/graft.py:_fusion: layer {}: its weights do not fit": "cannot happen, as far as is known",
    "quantization/int8.py:_complete_layers": "cannot happen, as far as is known: all are refused before",
    "sources/functions.py:trace_concrete: the function cannot be called": "cannot happen, as far as is known",
}
"""How places of messages begin, perhaps with their texts, that have no remedy of their own, and why."""


def refusals() -> Iterator[Refusal]:
    for module in pkgutil.iter_modules(tests.remedies.__path__, f"{tests.remedies.__name__}."):
        yield from getattr(importlib.import_module(module.name), "REFUSALS", ())


def is_explained(message: Message) -> bool:
    whole = f"{message.place}: {message.text}"
    return any(map(whole.startswith, WITHOUT_REMEDY)) or any(words in message.text for words in OTHER_TESTS)


def test_every_message_is_met():
    entries = list(refusals())
    left = [each for each in messages() if not is_explained(each) and not any(one.covers(each) for one in entries)]
    assert not left, "\n".join(f"{each.place}:{each.line}: {each.text}" for each in left)


@pytest.mark.parametrize("refusal", refusals(), ids=str)
def test_an_entry_is_about_one_message_or_two_that_say_the_same(refusal):
    assert 1 <= len({each.text for each in messages() if refusal.covers(each)}) <= 2


def test_what_the_lists_name_is_there():
    whole = [f"{each.place}: {each.text}" for each in messages()]
    assert not [words for words in OTHER_TESTS if not any(words in each for each in whole)]
    assert not [place for place in WITHOUT_REMEDY if not any(each.startswith(place) for each in whole)]
    for test in OTHER_TESTS.values():
        path, _, name = test.partition("::")
        assert f"def {name}" in (PACKAGE.parent / "tests" / path).read_text(), test


def test_no_message_advises_an_unchecked_file():
    assert not [each for each in messages() if re.search(r"verify\s*=\s*False", each.text)]
