"""Mistakes that people make, and what prefloop says to each, word for word.

`test_user_mistakes.py` makes every one of them. The table in the documentation comes from here as well:

    python tests/support/user_mistakes.py > docs/mistakes.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import Factory, frozen

FILE = "my.yaml"
RIGHT = """\
model: model
prompts: prompts.jsonl
judge: {use: rule, length: shorter}
sampler: {max_completion_length: 4}
training: {batch_size: 2, iters: 1}
evaluation: {held_out: 0}
output: run
"""
"""A configuration without a mistake; those below go on top of it."""

KEYS = [line.partition(":")[0] for line in RIGHT.splitlines()]
PROMPTS = "".join(f'{{"prompt": "Say {word}."}}\n' for word in ("one", "two", "three", "four"))
JUDGE = "def prefer(prompt, first, second):\n    return len(first) < len(second)\n"


@frozen
class Mistake:
    """One mistake. The configuration file starts with the lines in `config`, and is right otherwise.

    `files` are other files that hold the mistake, `arguments` what follows ``prefloop train``, and
    `without` the keys that are left out. `says` is standard error, without ``error:``; ``{here}`` stands
    for the folder in which prefloop is run, and ``…`` for words of a library.
    """

    wrong: str
    says: str
    config: str = ""
    files: Mapping[str, str | bytes] = Factory(dict)
    arguments: Sequence[str] = (FILE,)
    without: Sequence[str] = ()

    @property
    def text(self) -> str:
        """The whole configuration file."""
        given = {line.partition(":")[0] for line in self.config.splitlines()} | {*self.without}
        rest = [line for line in RIGHT.splitlines() if line.partition(":")[0] not in given]
        return "\n".join([*self.config.splitlines(), *rest]) + "\n"


CONFIGURATION = [
    Mistake(
        "a misspelt option",
        "my.yaml:1: training.learning_rat: there is no such option. Did you mean 'learning_rate'?",
        "training: {batch_size: 2, learning_rat: 1e-5}",
    ),
    Mistake(
        "a misspelt section",
        "my.yaml:1: trainning: there is no such option. Did you mean 'training'?",
        "trainning: {batch_size: 4}",
    ),
    Mistake(
        "an option in the wrong place",
        "my.yaml:1: beta: there is no such option. Did you mean 'loss.beta'?",
        "beta: 0.2",
    ),
    Mistake(
        "text where a number belongs",
        "my.yaml:1: training.batch_size: must be a whole number, not the text 'four'.",
        "training: {batch_size: four}",
    ),
    Mistake(
        "a number in quotes",
        "my.yaml:1: training.learning_rate: must be a number, not the text '1e-5'. Write it without quotes.",
        'training: {learning_rate: "1e-5"}',
    ),
    Mistake(
        "a whole number with a point",
        "my.yaml:1: adapter.rank: must be a whole number, not the number 8.0. Write 8.",
        "adapter: {rank: 8.0}",
    ),
    Mistake(
        "a number where text belongs",
        "my.yaml:1: judge.system: must be text, not the number 5. Put it in quotes: '5'.",
        "judge: {use: llm, system: 5}",
    ),
    Mistake(
        "yes for true",
        "my.yaml:1: training.gradient_checkpointing: must be true or false, not the text "
        "'yes'. Write true or false.",
        "training: {gradient_checkpointing: yes}",
    ),
    Mistake(
        "a number out of range",
        "my.yaml:1: adapter.dropout: must be < 1, not 1.5.",
        "adapter: {dropout: 1.5}",
    ),
    Mistake(
        "a choice that there is not",
        "my.yaml:1: model.quantize: must be one of none, 4bit, 6bit, 8bit, mxfp4, not the "
        "text '4-bit'. Did you mean '4bit'?",
        "model: {path: model, quantize: 4-bit}",
    ),
    Mistake(
        "nothing after a key",
        "my.yaml:1: training: must be a mapping, not null (nothing). Leave the key out to keep its defaults.",
        "training:",
    ),
    Mistake(
        "a key given twice",
        "my.yaml:1: loss.beta: this key is given twice, first in line 1.",
        "loss: {beta: 0.1, beta: 0.2}",
    ),
    Mistake(
        "a bracket that is never closed",
        "my.yaml:2: is not valid YAML at column 6: expected ',' or '}', but got ':', while "
        "parsing a flow mapping that starts in line 1.",
        "loss: {beta: 0.1",
    ),
    Mistake(
        "a tab",
        "my.yaml:2: is not valid YAML at column 1: a tab, where YAML is indented with spaces.",
        "loss:\n\tbeta: 0.1",
    ),
    Mistake(
        "no model",
        "my.yaml:1: model: is missing. The model that is trained: a Hub id or folder, or a mapping.",
        without=["model"],
    ),
    Mistake(
        "both a length in steps and one in epochs",
        "my.yaml:1: training: iters and epochs exclude each other: give one of them.",
        "training: {iters: 5, epochs: 2}",
    ),
    Mistake(
        "an unknown optimizer",
        "my.yaml:1: training.optimizer: there is no optimizer 'adamm'. Did you mean 'adam'?",
        "training: {optimizer: adamm}",
    ),
    Mistake(
        "an option that the optimizer does not have",
        "my.yaml:1: training.optimizer.betas: there is no such option. Known: dampening, "
        "momentum, nesterov, use, weight_decay.",
        "training: {optimizer: {use: sgd, betas: [0.9, 0.99]}}",
    ),
    Mistake(
        "an unknown schedule",
        "my.yaml:1: training.schedule: there is no schedule 'cosine'. Did you mean 'cosine_decay'?",
        "training: {schedule: cosine}",
    ),
    Mistake(
        "a warm-up as long as the run",
        "my.yaml:1: training.schedule.warmup: 5 steps of warm-up leave nothing of a run of 5 steps.",
        "training: {iters: 5, schedule: {use: constant, warmup: 5}}",
    ),
    Mistake(
        "an early stop without evaluations to go by",
        "my.yaml:1: training.early_stop: goes by evaluations during the run: set training.evaluate_every.",
        "training: {early_stop: 3}\nevaluation: {held_out: 4}",
    ),
    Mistake(
        "an early stop before it can have got better",
        "my.yaml:1: training.early_stop: must be at least 1, or null for never, not 0.",
        "training: {early_stop: 0}",
    ),
    Mistake(
        "the best adapters of a run that keeps none",
        "my.yaml:1: training.load_best: needs a checkpoint to load: set training.keep_best to 1 or more.",
        "training: {evaluate_every: 1, load_best: true, keep_best: 0}\nevaluation: {held_out: 4}",
    ),
    Mistake(
        "an empty configuration file",
        "my.yaml:1: the file is empty. `prefloop config init` writes one to start from.",
        without=KEYS,
    ),
    Mistake(
        "a list for a configuration file",
        "my.yaml:1: the file must be a mapping of keys such as 'model: PATH'.",
        "- model: model",
        without=KEYS,
    ),
    Mistake(
        "several mistakes at once",
        "my.yaml:1: loss.beta: must be > 0.0, not -1.0.\n"
        "my.yaml:2: adapter.rank: must be >= 1, not 0.\n"
        "my.yaml:3: training.iterations: there is no such option. Did you mean 'iters'?",
        "loss: {use: ipo, beta: -1}\nadapter: {type: lora, rank: 0}\ntraining: {iterations: 5}",
    ),
]
COMPONENTS = [
    Mistake(
        "an unknown judge", "my.yaml:1: judge: there is no judge 'lmm'. Did you mean 'llm'?", "judge: lmm"
    ),
    Mistake(
        "an unknown loss",
        "my.yaml:1: loss: there is no loss 'sigmod'. Did you mean 'sigmoid'?",
        "loss: sigmod",
    ),
    Mistake(
        "an unknown algorithm",
        "my.yaml:1: algorithm: there is no algorithm 'online-dpo'. Did you mean 'online_dpo'?",
        "algorithm: online-dpo",
    ),
    Mistake(
        "an option that the loss does not have",
        "my.yaml:1: loss.delta: there is no such option. Did you mean 'beta'?",
        "loss: {use: ipo, delta: 50.0}",
    ),
    Mistake(
        "a bonus whose samples the sampler does not draw",
        "my.yaml:1: bonuses.0: needs completions from the reference, and sampler "
        "'prefloop:policy' draws none. Use 'sampler: policy-reference'.",
        "bonuses: [{use: optimism}]",
    ),
    Mistake(
        "a judge model that is not there",
        "judge: model './judge': there is no such folder.",
        "judge: ./judge",
    ),
    Mistake(
        "a person as judge, without a terminal",
        "judge: the human judge needs a terminal, and standard input or output is none: run "
        "prefloop in a terminal, without pipes, or choose another judge.",
        "judge: human",
    ),
    Mistake(
        "a misspelt file of plugins",
        "my.yaml:1: plugins.files.0: there is no file 'my_jugde.py' in '{here}'. Did you mean 'my_judge.py'?",
        "plugins: {files: [my_jugde.py]}",
        {"my_judge.py": JUDGE},
    ),
    Mistake(
        "an error in a file of plugins",
        "my.yaml:1: plugins.files.0: my_judge.py:3: NameError: name 'hookimpl' is not defined",
        "plugins: {files: [my_judge.py]}",
        {"my_judge.py": JUDGE + "@hookimpl\ndef prefloop_judges():\n    return {}\n"},
    ),
    Mistake(
        "a judge function in a module that is not there",
        "my.yaml:1: judge: call: there is no module 'my_jugde', neither installed nor in "
        "{here}. Did you mean 'my_judge'?",
        "judge: {use: function, call: my_jugde:prefer}",
        {"my_judge.py": JUDGE},
    ),
    Mistake(
        "a judge function that its module does not have",
        "my.yaml:1: judge: call: module 'my_judge' ({here}/my_judge.py) has no function "
        "'prefers'. Did you mean 'prefer'?",
        "judge: {use: function, call: my_judge:prefers}",
        {"my_judge.py": JUDGE},
    ),
    Mistake(
        "a judge function given without its module",
        "my.yaml:1: judge: call: 'prefer' is not of the form module:function.",
        "judge: {use: function, call: prefer}",
    ),
    Mistake(
        "an embedded file that there is not",
        "judge: model: nothing is embedded under the name 'embedded:jugde'. Did you mean 'embedded:judge'?",
        "judge: embedded:jugde",
    ),
]
MODELS = [
    Mistake(
        "a stop token that the model does not have",
        "sampler: stop has the token id 99999, and the model has embeddings for 0 to 319: tokens were added "
        "to its tokenizer and the model was not resized. Use the tokenizer that it came with, or resize its "
        "embedding.",
        "sampler: {max_completion_length: 4, stop: [99999]}",
    ),
    Mistake(
        "an empty text to stop at",
        "my.yaml:1: sampler.stop: takes texts and token ids, not ''.",
        "sampler: {max_completion_length: 4, stop: ['']}",
    ),
    Mistake(
        "a model folder that is not there",
        "model './modle': there is no such folder. Did you mean 'model'?",
        "model: ./modle",
    ),
    Mistake(
        "a folder without config.json",
        "model 'weights': the folder has no config.json, so it is not a model folder.",
        "model: weights",
        {"weights/model.safetensors": b""},
    ),
    Mistake(
        "a file for a model",
        "model 'prompts.jsonl': it is a file, not a model folder.",
        "model: prompts.jsonl",
    ),
    Mistake("an unknown kind of model", "model 'perceptron' cannot be loaded: …", "model: perceptron"),
    Mistake(
        "a config.json that is broken",
        "model 'strange': its config.json is broken JSON: Expecting value: line 1 column 16 (char 15).",
        "model: strange",
        {"strange/config.json": '{"model_type": '},
    ),
    Mistake(
        "a model without weights",
        "model 'strange': the folder holds no weights (model*.safetensors).",
        "model: strange",
        {"strange/config.json": '{"model_type": "llama"}'},
    ),
    Mistake(
        "a model without a tokenizer",
        "model 'no-tokenizer': the folder holds no tokenizer.",
        "model: no-tokenizer",
    ),
    Mistake("weights that were cut off in a download", "model 'cut' cannot be loaded: …", "model: cut"),
    Mistake(
        "quantizing a model that is quantized already",
        "model 'quantized' cannot be loaded: it is quantized already. Remove 'quantize'.",
        "model: {path: quantized, quantize: 4bit}",
    ),
    Mistake(
        "full fine-tuning of a model quantized on loading",
        "my.yaml:2: adapter.type: full weights cannot be trained with 'model.quantize: "
        "4bit', as quantized weights have no gradient. Use lora or dora, or 'quantize: none'.",
        "model: {path: model, quantize: 4bit}\nadapter: {type: full}",
    ),
    Mistake(
        "full fine-tuning of a quantized model",
        "adapter.type: full fine-tuning cannot train quantized weights. Use lora or dora, or "
        "a model that is not quantized.",
        "model: quantized\nadapter: {type: full}",
    ),
    Mistake(
        "a reference that is not there",
        "reference: model './old': there is no such folder.",
        "reference: ./old",
    ),
    Mistake(
        "a reference with another tokenizer",
        "reference 'other-vocabulary': its tokenizer differs from the policy's, so it cannot "
        "score the same tokens. Use a model of the same family.",
        "reference: other-vocabulary",
    ),
    Mistake(
        "adapters to go on from that are not there",
        "adapter.resume_from: there is no file 'run-0'.",
        "adapter: {resume_from: ./run-0}",
    ),
    Mistake(
        "adapters to go on from with another rank",
        "adapter.resume_from: the adapters in 'adapters-of-rank-4' were trained with rank 4, "
        "and adapter.rank is 8. Set adapter.rank: 4.",
        "adapter: {rank: 8, resume_from: adapters-of-rank-4}",
    ),
    Mistake(
        "adapters to go on from of another type",
        "adapter.resume_from: the adapters in 'adapters-of-rank-4' were trained with type "
        "lora, and adapter.type is dora. Set adapter.type: lora.",
        "adapter: {type: dora, rank: 4, resume_from: adapters-of-rank-4}",
    ),
    Mistake(
        "adapters to go on from with another scale",
        "adapter.resume_from: the adapters in 'adapters-of-rank-4' were trained with scale "
        "20.0, and adapter.scale is 10.0. Set adapter.scale: 20.0.",
        "adapter: {rank: 4, scale: 10.0, resume_from: adapters-of-rank-4}",
    ),
    Mistake(
        "a layer to adapt that the model does not have",
        "adapter.keys: no layer that is trained is called 'q_proj'. Did you mean 'self_attn.q_proj'?",
        "adapter: {keys: [self_attn.v_proj, q_proj]}",
    ),
    Mistake(
        "an output layer to adapt that is the embedding",
        "adapter.keys: this model has no lm_head, its output layer is the embedding. Leave it "
        "out or name that: model.embed_tokens.",
        "adapter: {keys: [self_attn.v_proj, lm_head]}",
    ),
    Mistake(
        "a rank larger than the model",
        "adapter.rank: 1000000000 is more than the widest layer of this model has inputs or "
        "outputs (…); 4 to 64 are usual.",
        "adapter: {rank: 1000000000}",
    ),
]
DATA = [
    Mistake(
        "a prompts file that is not there",
        "there is no file or folder 'prompt.jsonl', and it is no Hub id of the form "
        "owner/name. Did you mean 'prompts.jsonl'?",
        "prompts: prompt.jsonl",
    ),
    Mistake(
        "an ending that is not read",
        "prompts.txt has none of the endings that are read: .csv, .json, .jsonl, .parquet, .tsv",
        "prompts: prompts.txt",
        {"prompts.txt": "Say one.\n"},
    ),
    Mistake("an empty file", "prompts.jsonl is empty: it holds no rows", files={"prompts.jsonl": ""}),
    Mistake(
        "a blank line",
        "prompts.jsonl:2 is a blank line",
        files={"prompts.jsonl": '{"prompt": "Say one."}\n\n{"prompt": "Say two."}\n'},
    ),
    Mistake(
        "a prompt that is null",
        "prompts.jsonl:2 has null as its 'prompt', not text or a list of messages",
        files={"prompts.jsonl": '{"prompt": "Say one."}\n{"prompt": null}\n'},
    ),
    Mistake(
        "a prompt that is empty",
        "prompts.jsonl:1 has an empty text as its 'prompt'",
        files={"prompts.jsonl": '{"prompt": ""}\n{"prompt": "Say two."}\n'},
    ),
    Mistake(
        "a prompt that is a number",
        "prompts.jsonl:2 has a number as its 'prompt', not text or a list of messages",
        files={"prompts.jsonl": '{"prompt": "Say one."}\n{"prompt": 2}\n'},
    ),
    Mistake(
        "a broken line",
        "prompts.jsonl:2 is broken JSON: Unterminated string starting at (column 12)",
        files={"prompts.jsonl": '{"prompt": "Say one."}\n{"prompt": "Say two.}\n'},
    ),
    Mistake(
        "text that is not UTF-8",
        "prompts.jsonl:1 is not UTF-8 text (byte 0xab): save the file as UTF-8",
        files={"prompts.jsonl": '{"prompt": "Dis «é»."}\n'.encode("latin-1")},
    ),
    Mistake(
        "no column with prompts",
        "prompts.jsonl has no column 'prompt' or 'messages'; it has 'question'. Name the "
        "column that holds the prompts in prompts.column.",
        files={"prompts.jsonl": '{"question": "Say one."}\n'},
    ),
    Mistake(
        "a column that is not there",
        "prompts.jsonl has no column 'promt'; it has 'prompt'. Did you mean 'prompt'?",
        "prompts: {path: prompts.jsonl, column: promt}",
    ),
    Mistake(
        "a row without its prompt",
        "prompts.jsonl:2 has no 'prompt'",
        files={"prompts.jsonl": '{"prompt": "Say one."}\n{"text": "Say two."}\n'},
    ),
    Mistake(
        "a chat without a user",
        "prompts.jsonl:1 has no user message in its 'messages'",
        files={"prompts.jsonl": '{"messages": [{"role": "assistant", "content": "Hello."}]}\n'},
    ),
    Mistake(
        "a message without a role",
        "prompts.jsonl:1 has no 'role' in message 1 of its 'messages'",
        files={"prompts.jsonl": '{"messages": [{"from": "human", "value": "Hello."}]}\n'},
    ),
    Mistake(
        "a CSV file without a header",
        "prompts.csv has no column 'prompt' or 'messages'; it has 'Say one.'. Name the "
        "column that holds the prompts in prompts.column. The first line of such a file "
        "names its columns.",
        "prompts: prompts.csv",
        {"prompts.csv": "Say one.\nSay two.\n"},
    ),
    Mistake(
        "a row of a CSV file with too many values",
        "prompts.csv:2 has 2 values where the header has 1",
        "prompts: prompts.csv",
        {"prompts.csv": "prompt\nSay one, and two.\n"},
    ),
    Mistake(
        "only prompts that are too long",
        "prompts.jsonl: all 4 prompts are longer than prompts.max_length, 3 tokens; the "
        "shortest has 29. Raise it, or set prompts.too_long: truncate_left.",
        "prompts: {path: prompts.jsonl, max_length: 3}",
    ),
    Mistake(
        "a batch larger than the data",
        "training.batch_size: a step takes 8 prompts (batch_size x gradient_accumulation), "
        "but there are only 4 to train on. Lower it or add prompts.",
        "training: {batch_size: 4, gradient_accumulation: 2}",
    ),
    Mistake(
        "a split that a file does not have",
        "prompts.split: prompts.jsonl is one file and has only the split 'train'",
        "prompts: {path: prompts.jsonl, split: test}",
    ),
    Mistake(
        "a column of answers that is not there",
        "evaluation.answer_column: prompts.jsonl:18 has nothing in a column 'solution'. Its other columns: "
        "answer.",
        "evaluation: {held_out: 2, answer_column: solution}",
        {"prompts.jsonl": "".join(f'{{"prompt": "Say {i}.", "answer": "{i}"}}\n' for i in range(20))},
    ),
    Mistake(
        "a file to evaluate on that is not there",
        "evaluation.prompts: there is no file or folder 'heldout.jsonl', and it is no Hub id "
        "of the form owner/name. Did you mean 'prompts.jsonl'?",
        "evaluation: {prompts: heldout.jsonl}",
    ),
    Mistake(
        "an early stop with too few prompts to hold any out",
        "training.early_stop: nothing is evaluated that it could go by: set evaluation.prompts.",
        "training: {batch_size: 2, iters: 1, evaluate_every: 1, early_stop: 2}\nevaluation: {held_out: 4}",
    ),
    Mistake(
        "evaluating on nothing",
        "my.yaml:1: training.evaluate_every: there is nothing to evaluate on: set "
        "evaluation.prompts, or evaluation.held_out above 0.",
        "training: {evaluate_every: 5}",
    ),
]
OUTPUT = [
    Mistake(
        "an output folder that holds a run",
        "output.path: 'old' holds a run already; give another folder, or go on with that run: "
        "prefloop train --resume old",
        "output: old",
        {"old/run.json": "{}"},
    ),
    Mistake(
        "an output folder that is a file",
        "output.path: 'notes.txt' is a file; give a folder.",
        "output: notes.txt",
        {"notes.txt": "Remember the milk.\n"},
    ),
    Mistake(
        "an output folder below a file",
        "output.path: 'notes.txt' is a file; give a folder.",
        "output: notes.txt/run",
        {"notes.txt": "Remember the milk.\n"},
    ),
]
COMMAND_LINE = [
    Mistake(
        "a configuration file that is not there", "mine.yaml: there is no such file.", arguments=["mine.yaml"]
    ),
    Mistake(
        "a folder for a configuration file", "model: cannot be read: Is a directory.", arguments=["model"]
    ),
    Mistake(
        "--set without a value",
        "--set loss.beta: must have the form KEY.PATH=VALUE, such as loss.beta=0.2.",
        arguments=[FILE, "--set", "loss.beta"],
    ),
    Mistake(
        "--set of an unknown option",
        "--set training.batchsize=4: there is no such option. Did you mean 'batch_size'?",
        arguments=[FILE, "--set", "training.batchsize=4"],
    ),
    Mistake(
        "--set of a wrong type",
        "--set loss.beta=high: must be a number, not the text 'high'.",
        arguments=[FILE, "--set", "loss.beta=high"],
    ),
    Mistake(
        "--set below something that has no options",
        "--set reference.path=old: reference: must be text, not a mapping.",
        arguments=[FILE, "--set", "reference.path=old"],
    ),
    Mistake(
        "--set of a bonus that there is not",
        "--set bonuses.0.alpha=0.1: '0' must be an entry, but the list is empty.",
        arguments=[FILE, "--set", "bonuses.0.alpha=0.1"],
    ),
]

MISTAKES = {
    "The configuration file": CONFIGURATION,
    "Judges, losses and other components": COMPONENTS,
    "Models and adapters": MODELS,
    "Prompts": DATA,
    "The output folder": OUTPUT,
    "The command line": COMMAND_LINE,
}

SHOWN = 3
"""Lines of a file that the page shows."""

INTRODUCTION = """\
# What prefloop says to a mistake

Every mistake below is one clear line, or one for each where there are several, on standard error. The exit
code is 2 and nothing is written: neither an output folder nor anything else. The tests make each of them
and compare the message word for word. `…` stands for what a library says in its own words, and `{{here}}`
for the folder in which prefloop is run.

The mistakes are made on top of this configuration, `my.yaml`, which trains:

```yaml
{right}```

This page is written by `python tests/support/user_mistakes.py > docs/mistakes.md`.
"""


def page() -> str:
    """The page of documentation."""
    parts = [INTRODUCTION.format(right=RIGHT)]
    for title, mistakes in MISTAKES.items():
        parts += [f"\n## {title}\n", "| mistake | you write | prefloop says |", "| --- | --- | --- |"]
        parts += [f"| {m.wrong} | {_code(_written(m))} | {_code(m.says.splitlines())} |" for m in mistakes]
    return "\n".join(parts) + "\n"


def _written(mistake: Mistake) -> Iterator[str]:
    if mistake.arguments != (FILE,):
        yield " ".join(["prefloop train", *mistake.arguments])
    yield from mistake.config.splitlines()
    if mistake.without == KEYS and not mistake.config:
        yield f"(an empty {FILE})"
    elif mistake.without and mistake.without != KEYS:
        yield f"(no {', '.join(mistake.without)})"
    for name, content in mistake.files.items():
        text = content if isinstance(content, str) else content.decode("latin-1")
        lines = text.splitlines() or ["(empty)"]
        yield from (f"{name}: {line}" for line in lines[:SHOWN])
        if len(lines) > SHOWN:
            yield "…"


def _code(lines: Iterable[str]) -> str:
    """Code in a cell of a table; a tab shows as an arrow."""
    return "<br>".join("`` {} ``".format(line.replace("|", "\\|").replace("\t", "⇥")) for line in lines)


if __name__ == "__main__":
    print(page(), end="")
