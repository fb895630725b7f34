"""Configurations, against PyTorch's own sums and published sizes; tests/sweeps has all configuration classes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import transformers
from torch import nn

import paramcount
from paramcount import ParamcountError, Report
from paramcount.errors import BuildError, MissingLibrary, UnknownTarget, UsageError
from paramcount.files.configuration import BadConfiguration
from paramcount.sources import resolve
from paramcount.sources import transformers as source
from tests.conftest import Run
from tests.language_models import CONFIGS, PUBLISHED
from tests.sweeps import Sums, on_meta
from tests.sweeps.every_transformers import case

# Encoders, decoders, both; mixtures of experts, state spaces; images, speech, and several of them in one.
MODEL_TYPES = (
    "albert",
    "audio-spectrogram-transformer",
    "bart",
    "beit",
    "bert",
    "blip-2",
    "canine",
    "clip",
    "cohere",
    "convnextv2",
    "deberta-v2",
    "detr",
    "dinov2",
    "electra",
    "falcon",
    "fnet",
    "gemma3",
    "gpt_neo",
    "gpt_oss",
    "hubert",
    "idefics3",
    "jamba",
    "layoutlmv3",
    "llava",
    "mamba2",
    "mask2former",
    "mpt",
    "olmo2",
    "opt",
    "perceiver",
    "qwen2_vl",
    "reformer",
    "roformer",
    "siglip",
    "speecht5",
    "swinv2",
    "t5",
    "timesformer",
    "vit_mae",
    "wav2vec2",
    "whisper",
    "xlm-roberta",
    "xlnet",
)
HEADS = {
    "bart": "BartForConditionalGeneration",
    "bert": "BertForPreTraining",
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "electra": "ElectraForMaskedLM",
    "gpt2": "GPT2DoubleHeadsModel",
    "llava": "LlavaForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "whisper": "WhisperForConditionalGeneration",
}
SMALL: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def write(config: object, name: str = "model") -> str:
    """Write a configuration in the current folder, and return the target that means it."""
    Path(name).mkdir(exist_ok=True)
    text = config if isinstance(config, str) else json.dumps(config)
    (Path(name) / "config.json").write_text(text)
    return f"transformers:{name}"


def count(config: object, **keywords: Any) -> Report:
    return paramcount.count(write(config), **keywords)


def failure(config: object, **keywords: Any) -> ParamcountError:
    with pytest.raises(ParamcountError) as caught:
        count(config, **keywords)
    return caught.value


# Against PyTorch and the published ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_size_is_met_exactly(name: str) -> None:
    report = paramcount.count(f"transformers:{CONFIGS / name}.json")
    assert report.total == PUBLISHED[name]
    written = json.loads((CONFIGS / f"{name}.json").read_text())
    assert report.nbytes == PUBLISHED[name] * (2 if written.get("torch_dtype") in {"bfloat16", "float16"} else 4)
    assert not {note.code for note in report.notes} & {"real-memory", "base-model"}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_configuration_class_has_the_sums_of_transformers_own_model(model_type: str, folder: Path) -> None:
    built = case(model_type, folder)
    expected = Sums.of_model(on_meta(built.construct))
    report = built.counted()
    assert Sums.of_report(report) == expected
    assert "real-memory" not in {note.code for note in report.notes}


@pytest.mark.parametrize("architecture", HEADS.values())
def test_the_architecture_that_a_configuration_names_is_built(architecture: str, folder: Path) -> None:
    model_type = next(key for key, value in HEADS.items() if value == architecture)
    built = case(model_type, folder, architecture=architecture)
    expected = Sums.of_model(on_meta(built.construct))
    report = built.counted()
    assert Sums.of_report(report) == expected
    assert report.root.type == architecture


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("LlamaForCausalLM", SMALL),
        ("T5ForConditionalGeneration", {"model_type": "t5", "d_model": 8, "d_ff": 9, "d_kv": 4, "num_heads": 2}),
        ("BertForPreTraining", {"model_type": "bert", "hidden_size": 12, "intermediate_size": 5}),
        ("BartForConditionalGeneration", {"model_type": "bart", "d_model": 16, "vocab_size": 50}),
    ],
)
def test_ties_are_those_of_a_model_in_real_memory(
    architecture: str, config: dict[str, Any], tied: bool, folder: Path
) -> None:
    report = count({**config, "architectures": [architecture], "tie_word_embeddings": tied})
    read = transformers.AutoConfig.from_pretrained("model")
    model: nn.Module = getattr(transformers, architecture)(read)
    assert Sums.of_report(report) == Sums.of_model(model)
    assert [p.name for p in report.params] == [name for name, _ in model.named_parameters(remove_duplicate=False)]


def test_a_trillion_parameters_are_counted(folder: Path) -> None:
    config = {
        "model_type": "deepseek_v3",
        "architectures": ["DeepseekV3ForCausalLM"],
        "num_hidden_layers": 91,
        "torch_dtype": "bfloat16",
    }
    report = count(config)
    assert report.total > 10**12
    read = transformers.AutoConfig.from_pretrained("model")
    automatic: Any = transformers.AutoModelForCausalLM
    model = on_meta(lambda: automatic.from_config(read))
    assert Sums.of_report(report) == Sums.of_model(model)


# What a configuration says --------------------------------------------------------------------------------------------


def test_the_dtype_of_the_configuration_gives_the_bytes(folder: Path) -> None:
    total = count(SMALL).total
    assert count(SMALL).nbytes == 4 * total
    assert count({**SMALL, "torch_dtype": "bfloat16"}).nbytes == 2 * total
    assert count({**SMALL, "dtype": "float16"}).nbytes == 2 * total
    assert count({**SMALL, "dtype": "float16"}, args={"torch_dtype": "float64"}).nbytes == 8 * total


def test_without_an_architecture_the_base_model_is_counted_and_noted(folder: Path) -> None:
    config = {key: value for key, value in SMALL.items() if key != "architectures"}
    report = count(config)
    assert report.root.type == "LlamaModel"
    assert report.total == count(SMALL).total - 16 * 100
    assert [note.code for note in report.notes] == ["base-model"]


def test_quantised_weights_count_as_what_they_stand_for_and_are_noted(folder: Path) -> None:
    report = count({**SMALL, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})
    assert report.total == count(SMALL).total
    (note,) = report.notes
    assert (note.code, "(fp8)" in note.message) == ("quantized", True)


def test_numbers_that_only_python_takes_for_json_are_read(folder: Path) -> None:
    assert count(json.dumps(SMALL)[:-1] + ', "limit": Infinity}').total == count(SMALL).total


# Overrides ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args", [{"num_hidden_layers": 1}, {"num_hidden_layers": 5}, {"hidden_size": 32}, {"tie_word_embeddings": True}]
)
def test_an_override_counts_as_if_the_file_said_so(args: dict[str, Any], folder: Path) -> None:
    assert count(SMALL, args=args).to_dict() == count({**SMALL, **args}).to_dict()


def test_a_list_with_an_item_a_layer_is_as_long_as_there_are_layers(folder: Path) -> None:
    config = {**SMALL, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    listed = {**config, "layer_types": ["full_attention", "sliding_attention", "full_attention"]}
    assert count(listed, args={"num_hidden_layers": 2}).total == count({**config, "num_hidden_layers": 2}).total
    error = failure(listed, args={"num_hidden_layers": 4})
    assert "`num_hidden_layers` (4) must be equal to the number of `layer_types` (3)" in error.message


def test_a_key_may_have_the_name_that_all_configurations_share(folder: Path) -> None:
    config = {"model_type": "gpt2", "n_layer": 3, "n_embd": 12, "vocab_size": 9}
    assert count(config, args={"num_hidden_layers": 2, "hidden_size": 24}).total == (
        count({**config, "n_layer": 2, "n_embd": 24}).total
    )


def test_a_part_of_a_composite_configuration_is_overridden_key_by_key(folder: Path) -> None:
    text = {key: SMALL[key] for key in SMALL if key != "architectures"}
    config = {"model_type": "llava", "text_config": text, "vision_config": {"model_type": "clip_vision_model"}}
    args = {"text_config": {"num_hidden_layers": 1}}
    expected = count({**config, "text_config": {**text, "num_hidden_layers": 1}}).total
    assert count(config, args=args).total == expected
    error = failure(config, args={"num_key_value_heads": 1})
    assert isinstance(error, UsageError)
    assert error.hint == "text_config has one: -a 'text_config={num_key_value_heads: …}'"


def test_labels_and_architectures_can_be_overridden(folder: Path) -> None:
    config = {**SMALL, "id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
    args = {"architectures": ["LlamaForSequenceClassification"], "num_labels": 5}
    assert count(config, args=args)["score"].total == 5 * 16


def test_an_unknown_key_gets_the_closest(folder: Path) -> None:
    error = failure(SMALL, args={"num_hiden_layers": 2})
    assert (error.exit_code, error.message) == (
        2,
        "transformers:model: a configuration of llama has no 'num_hiden_layers'",
    )
    assert error.hint is not None
    assert error.hint.startswith("did you mean -a num_hidden_layers=…")


# What is not to be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ('{\n"a": 1,', "model/config.json:2: it is not JSON: ", None),
        ("[1]", "model/config.json: a configuration is a JSON object, and this is something else", None),
        ("{}", "model/config.json: it has no model_type", "every configuration of transformers has one"),
        ('{"architecture": "resnet18"}', "model/config.json: it has no model_type", "timm:local-dir:model"),
        ('{"_class_name": "AutoencoderKL"}', "model/config.json: it has no model_type", "diffusers:model"),
        ('{"model_type": "lama", "auto_map": 5}', "has no model_type 'lama'", "did you mean 'llama'"),
        ('{"model_type": "lama"}', "has no model_type 'lama'", "did you mean 'llama'"),
        ('{"model_type": "llama", "hidden_size": "x"}', "model/config.json: Validation error for field 'hid", None),
        ('{"model_type": "llama", "architectures": 5}', "model/config.json: ", None),
        (
            '{"model_type": "t5", "architectures": ["T5WithLMHeadModel"]}',
            "has no architecture 'T5WithLMHeadModel'",
            "did you mean -a 'architectures=[T5ForConditionalGeneration]'",
        ),
    ],
)
def test_a_configuration_that_describes_no_model_says_what_is_wrong(
    text: str, said: str, hint: str | None, folder: Path
) -> None:
    error = failure(text)
    assert isinstance(error, BadConfiguration)
    assert error.exit_code == 3
    assert said in error.message
    assert (hint or "") in (error.hint or "")


def test_what_the_model_itself_refuses_is_told(folder: Path) -> None:
    error = failure({**SMALL, "hidden_act": "no_such_act"})
    assert isinstance(error, BuildError)
    assert "no_such_act" in error.message


def test_a_misspelt_path_gets_the_closest(folder: Path) -> None:
    write(SMALL, "llama-small")
    for word in ("lama-small", "./lama-small", "lama-small/config.json"):
        with pytest.raises(UnknownTarget, match="did you mean transformers:llama-small"):
            paramcount.count(f"transformers:{word}")
    Path("empty").mkdir()
    with pytest.raises(UnknownTarget, match=r"empty is a folder without a config\.json"):
        paramcount.count("transformers:empty")
    for word in ("transformers:", "transformers:~no_such_user/x", "transformers:\0", f"transformers:{'x' * 5000}"):
        with pytest.raises(UnknownTarget):
            paramcount.count(word)


def test_a_folder_with_a_configuration_and_no_weights_needs_no_prefix(folder: Path) -> None:
    write(SMALL)
    found, name = resolve("model")
    assert (found.EXAMPLE, name) == (source.EXAMPLE, "model")
    assert list(source.names()) == ["transformers:model"]
    (folder / "model" / "model.safetensors").write_bytes(b"")
    assert resolve("model")[0].EXAMPLE != source.EXAMPLE


def test_a_bare_config_json_is_told_what_it_may_be(folder: Path) -> None:
    write(SMALL)
    with pytest.raises(ParamcountError) as caught:
        paramcount.count("model/config.json")
    assert caught.value.hint == "it may be the configuration of a model: transformers:model/config.json"


def test_weights_have_no_place(folder: Path) -> None:
    assert isinstance(failure(SMALL, weights="DEFAULT"), UsageError)


def test_without_transformers_the_command_that_installs_it_is_named(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    word = write(SMALL)
    outcome = run(word)
    assert outcome.code == 3
    assert f"{word} needs the transformers library, which is not there" in outcome.err
    assert "pip install 'paramcount[transformers]'" in outcome.err
    with pytest.raises(MissingLibrary):
        paramcount.count(word)


# Models by their ids --------------------------------------------------------------------------------------------------


def test_an_id_that_is_out_of_reach_says_so_after_one_question(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = []

    def unreachable(url: str, **_keywords: object) -> None:
        questions.append(url)
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    with pytest.raises(UnknownTarget) as caught:
        paramcount.count("transformers:org/model")
    assert len(questions) == 1
    assert caught.value.message == (
        "transformers:org/model: there is no folder org/model, and no model of that id could be looked up: no network"
    )
    assert caught.value.hint == "name a folder that holds its config.json: transformers:DIR"


def test_an_id_in_the_local_cache_is_found_without_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    repository = folder / "models--org--model"
    for name, text in (("refs/main", "a" * 40), (f"snapshots/{'a' * 40}/config.json", json.dumps(SMALL))):
        (repository / name).parent.mkdir(parents=True)
        (repository / name).write_text(text)
    assert paramcount.count("transformers:org/model").total == count(SMALL).total
    assert paramcount.count("transformers:org/model", args={"num_hidden_layers": 1}).total < count(SMALL).total


# Code of a model's own ------------------------------------------------------------------------------------------------


@pytest.fixture
def with_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration that comes with the code of its model."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder / "cache"))
    monkeypatch.setattr(sys, "path", [str(folder / "cache"), *sys.path])
    word = write(
        {
            "model_type": "own",
            "architectures": ["Own"],
            "auto_map": {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.Own"},
        }
    )
    Path("model/configuration_own.py").write_text(
        "open('was_run', 'w')\n"
        "from transformers import PretrainedConfig\n"
        "class OwnConfig(PretrainedConfig):\n"
        "    model_type = 'own'\n"
        "    def __init__(self, width=4, **rest):\n"
        "        super().__init__(**rest)\n"
        "        self.width = width\n"
    )
    Path("model/modeling_own.py").write_text(
        "from torch import nn\n"
        "from transformers import PreTrainedModel\n"
        "from .configuration_own import OwnConfig\n"
        "class Own(PreTrainedModel):\n"
        "    config_class = OwnConfig\n"
        "    def __init__(self, config):\n"
        "        super().__init__(config)\n"
        "        self.fc = nn.Linear(config.width, 2)\n"
        "        self.post_init()\n"
    )
    return word


def test_code_that_comes_with_a_model_is_not_run_unasked(with_code: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        paramcount.count(with_code)
    assert caught.value.hint == "read the code, and if you trust it: --trust-remote-code"
    assert not Path("was_run").exists()


def test_code_that_is_trusted_is_run(with_code: str, run: Run) -> None:
    assert run(with_code, "--trust-remote-code", "--value", "total").out == "10\n"
    assert run(with_code, "--trust-remote-code", "-a", "width=10", "--value", "total").out == "22\n"
    Path("models.yaml").write_text(
        f"version: 1\nmodels:\n  own: {{target: '{with_code}', trust_remote_code: true, budget: {{total: 10}}}}\n"
    )
    assert run("check").code == 0


def test_code_that_transformers_has_itself_is_taken_from_there(folder: Path) -> None:
    config = {**SMALL, "auto_map": {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.Y"}}
    config["auto_map"]["AutoTokenizer"] = ["tokenization_x.X", None]
    assert count(config).total == count(SMALL).total
    error = failure({**config, "architectures": ["Y"]})
    assert "its architecture Y is code that comes with the model" in error.message


# What a token passes through ------------------------------------------------------------------------------------------

# Published with the models: https://arxiv.org/abs/2401.04088, https://arxiv.org/abs/2505.09388.
ACTIVE = {"mixtral-8x7b": 12_879_925_248, "qwen3-30b-a3b": 3_353_032_704, "qwen3-235b-a22b": 22_190_763_520}


@pytest.mark.parametrize("name", ACTIVE)
def test_what_is_active_of_a_mixture_is_as_published(name: str) -> None:
    report = paramcount.count(f"transformers:{CONFIGS / name}.json")
    assert (report.total, report.active) == (PUBLISHED[name], ACTIVE[name])


@pytest.mark.parametrize(
    "model_type",
    [
        "aria_text",
        "deepseek_v3",
        "ernie4_5_moe",
        "glm4_moe",
        "gpt_oss",
        "granitemoe",
        "jamba",
        "jetmoe",
        "llama4_text",
        "nllb-moe",
        "olmoe",
        "phimoe",
        "qwen2_moe",
        "qwen3_5_moe_text",
        "switch_transformers",
    ],
)
def test_with_as_many_experts_as_are_active_all_would_be_active_but_for_the_router(
    model_type: str, tmp_path: Path
) -> None:
    """The same model with only K experts, and the router's rows for the others, which every token passes."""
    config = transformers.AutoConfig.for_model(model_type)
    number = next(
        key
        for key in ("moe_num_experts", "n_routed_experts", "num_local_experts", "num_experts")
        if hasattr(config, key)
    )
    choice = next(
        (key for key in ("num_experts_per_tok", "moe_topk", "moe_top_k", "moe_k") if hasattr(config, key)), None
    )
    active = getattr(config, choice) if choice else {"switch_transformers": 1, "nllb-moe": 2}[model_type]
    counted = {}
    for experts in (getattr(config, number), active):
        written = transformers.AutoConfig.for_model(model_type)
        setattr(written, number, experts)
        (tmp_path / "config.json").write_text(written.to_json_string(use_diff=False), encoding="utf-8")
        counted[experts] = paramcount.count(f"transformers:{tmp_path}")
    whole, fewer = counted[getattr(config, number)], counted[active]
    routers = {
        param.name: (param.numel or 0) - (next(other for other in fewer.params if other.name == param.name).numel or 0)
        for param in whole.params
        if param.active is None and param.tied_to is None
    }
    assert all("gate" in name or "router" in name for name, more in routers.items() if more)
    assert whole.active == fewer.total + sum(routers.values())
    assert whole.active < whole.total


def test_a_model_without_experts_says_nothing_of_them() -> None:
    assert "active" not in paramcount.count(f"transformers:{CONFIGS / 'gpt2'}.json").to_dict()


def test_routing_by_hand_goes_before_the_configuration_s() -> None:
    target = f"transformers:{CONFIGS / 'mixtral-8x7b'}.json"
    one, two = (paramcount.count(target, active=f"*.experts={active}/8") for active in (1, 2))
    assert two.active == ACTIVE["mixtral-8x7b"]
    # A layer's experts are 8 times three matrices of 4096 by 14336.
    assert two.active - one.active == 32 * 3 * 4096 * 14336
    assert [note.code for note in one.notes].count("active") == 1


def test_experts_of_which_nothing_says_how_many_are_active_are_noted_with_the_cure(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("deepseek_v2")
    config.num_hidden_layers = 4
    (tmp_path / "config.json").write_text(config.to_json_string(use_diff=False), encoding="utf-8")
    report = paramcount.count(f"transformers:{tmp_path}")
    assert report.active == report.total
    (note,) = [note for note in report.notes if note.code == "unrouted"]
    assert note.where == "layers.*.mlp.experts"
    assert "--active 'layers.*.mlp.experts=K/64'" in note.message
    told = paramcount.count(f"transformers:{tmp_path}", active="layers.*.mlp.experts=6/64")
    assert told.active < told.total
    assert "unrouted" not in {note.code for note in told.notes}


@pytest.mark.parametrize("name", ["mixtral-8x7b", "gpt2"])
def test_where_all_is_said_of_experts_nothing_is_noted(name: str) -> None:
    assert "unrouted" not in {note.code for note in paramcount.count(f"transformers:{CONFIGS / name}.json").notes}


@pytest.mark.parametrize("kernel", ["flash_attention_2", "kernels-community/flash-attn", "eager"])
def test_what_computes_attention_has_no_parameters(kernel: str, tmp_path: Path) -> None:
    """A kernel that is not installed here, or on the hub, is counted without; another one can be chosen."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {"vocab_size": 100, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, architectures=["LlamaForCausalLM"])
    file = tmp_path / "flash.json"
    total = sum(parameter.numel() for parameter in LlamaForCausalLM(config).parameters())
    file.write_text(json.dumps({**config.to_dict(), "attn_implementation": kernel}))
    assert paramcount.count(f"transformers:{file}").total == total
    file.write_text(json.dumps({**config.to_dict(), "attn_implementation": "flash_attention_2"}))
    assert paramcount.count(f"transformers:{file}", args={"attn_implementation": kernel}).total == total


def test_a_class_is_told_as_one_and_the_hint_is_what_then_works() -> None:
    with pytest.raises(UnknownTarget) as caught:
        paramcount.count("transformers:BertModel")
    assert caught.value.hint is not None
    written = caught.value.hint.partition("'")[2].partition("'")[0]
    assert paramcount.count(written).total == sum(
        parameter.numel()
        for parameter in on_meta(lambda: transformers.BertModel(transformers.BertConfig())).parameters()
    )


def test_an_id_without_a_prefix_is_told_with_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownTarget) as caught:
        paramcount.count("meta-llama/Llama-2-7b-hf")
    assert caught.value.hint is not None
    assert "transformers:meta-llama/Llama-2-7b-hf" in caught.value.hint
    assert "hf://meta-llama/Llama-2-7b-hf" in caught.value.hint
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    for path in ("models/net", "org/model.pt"):  # what is meant for a path
        with pytest.raises(UnknownTarget) as caught:
            paramcount.count(path)
        assert "transformers:" not in str(caught.value.hint)
