"""``models.yaml``: its grammar, and reading it into frozen values with the place of every mistake."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NoReturn, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, core_schema

from paramcount.budgets import (
    RULES,
    Allowance,
    Budget,
    Growth,
    Layers,
    Limit,
    Location,
    Rule,
    bounds,
    contradictions,
)
from paramcount.errors import UsageError, closest, did_you_mean
from paramcount.inputs import Input, WrongInput
from paramcount.routing import Routing, WrongRouting
from paramcount.units import COUNT_PATTERN, SIZE_PATTERN, as_written, parse_count, parse_size, plural, short, size
from paramcount.urls import paths
from paramcount.yamls import DEEPEST, CoreLoader

if TYPE_CHECKING:
    from paramcount.modules.build import Device

FILE: Final = "models.yaml"
VERSION: Final = 1

_Steps = tuple[str | int, ...]  # the keys and positions that lead to a value


# What a reader gets ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, and where it is."""

    location: Location
    message: str

    def __str__(self) -> str:
        """Return «models.yaml:7:5: unknown key 'max_totl'; did you mean 'total'?»."""
        return f"{self.location}: {self.message}"


class ConfigError(UsageError):
    """All mistakes of one file, sorted by their places."""

    code = "bad-config"

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Sort the problems; one that an alias repeats is one."""
        in_order = sorted(problems, key=lambda problem: (problem.location.line, problem.location.column))
        self.problems = tuple(dict.fromkeys(in_order))
        lines = [str(problem) for problem in self.problems]
        if len(lines) == 1:
            super().__init__(lines[0])
        else:
            super().__init__(
                f"{self.problems[0].location.file} has {plural(len(lines), 'mistake')}", details="\n".join(lines)
            )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of the file, with the defaults merged in: what to count, and what is asked of it."""

    name: str
    target: str  # as written; a path is relative to Config.base
    budget: Budget
    location: Location  # of its name
    args: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    freeze: tuple[str, ...] = ()
    unfreeze: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    device: Device = "auto"
    trust_remote_code: bool = False
    like: str | None = None  # the word of a model, relative as the target
    places: Mapping[str, Location] = field(default_factory=dict, repr=False)  # of its keys: "target", "freeze", …


@dataclass(frozen=True, slots=True)
class Config:
    """A whole file."""

    file: str  # as it was named
    base: Path  # the folder that targets are relative to
    models: tuple[ModelSpec, ...]  # in the order of the file; at least one

    @property
    def lock_file(self) -> Path:
        """Where the models' counts are locked: models.lock.json beside models.yaml."""
        return self.base / f"{Path(self.file).stem}.lock.json"

    def files(self, names: Sequence[str] = ()) -> Iterator[Path]:
        """Yield what is read for the models of these names, or for all: this file, the lock, and what targets name."""
        yield Path(self.file)
        yield self.lock_file
        for model in self.models:
            if not names or model.name in names:
                words = filter(None, (model.target, model.like))
                yield from (self.base / path for word in words for path in paths(word))

    def select(self, names: Sequence[str] = ()) -> tuple[ModelSpec, ...]:
        """Return the models of these names, in the order of the file; all for no names.

        Raises:
            UsageError: there is no such model.

        """
        known = [model.name for model in self.models]
        for name in names:
            if name not in known:
                hint = did_you_mean(closest(name, known)) or f"there is {', '.join(known)}"
                raise UsageError(f"{self.file} has no model {name!r}", hint=hint)
        return tuple(model for model in self.models if not names or model.name in names)


def load(path: str | Path = FILE) -> Config:
    """Read a file.

    Raises:
        ConfigError: the file has mistakes; all of them, each with its place.
        UsageError: there is no such file, or it cannot be read.

    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        hint = "paramcount init writes one" if isinstance(error, FileNotFoundError) else None
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read {path}: {reason}", hint=hint) from error
    return parse(data, file=str(path), base=Path(path).parent)


def parse(data: bytes, *, file: str = FILE, base: Path | None = None) -> Config:
    """Read a file's content; ``file`` is what messages call it.

    Raises:
        ConfigError: it has mistakes; all of them, each with its place.

    """
    document = _Document(data, file)
    written, problems = _validated(document)
    if written is not None:
        problems += _misfits(written, document)
    if problems or written is None:
        raise ConfigError(problems)
    models = tuple(_spec(name, written, document) for name in written.models)
    return Config(file, base if base is not None else Path(file).parent, models)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, by https://json-schema.org/draft/2020-12/schema."""
    schema = _File.model_json_schema(schema_generator=_Schema)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "paramcount's models.yaml"}


# The grammar ----------------------------------------------------------------------------------------------------------


_NO_VALUE = "there is no value"


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        model_title_generator=lambda model: re.sub(r"(?<=[a-z])(?=[A-Z])", " ", model.__name__.strip("_")).capitalize(),
    )

    @field_validator("*", mode="before")
    @classmethod
    def _has_a_value(cls, value: object, info: ValidationInfo) -> object:
        # An empty value is a slip, and must never mean "no limit".
        if value is None and info.field_name != "weights":
            raise ValueError(_NO_VALUE)
        return value


def _version(written: object) -> int:
    if type(written) is not int or written != VERSION:
        raise ValueError(f"{as_written(written)} is unknown: this paramcount reads version {VERSION}")
    return written


def _text(written: object) -> str:
    if written is None or (isinstance(written, str) and not written.strip()):
        raise ValueError(_NO_VALUE)
    if not isinstance(written, str):
        raise ValueError(f"{as_written(written)} is no text: quote what is meant as text")
    return written


def _routing(written: object) -> str:
    try:
        return str(Routing.parse(_text(written)))
    except WrongRouting as error:
        raise ValueError(str(error).replace("\n", "; ")) from None


def _inputs(written: object) -> list[str]:
    """Return one shape, as text or as a list of numbers, or a list of shapes."""
    shapes = written if isinstance(written, list) else [written]
    if not shapes:
        raise ValueError("there is no shape")
    if all(type(size) is int for size in shapes):
        shapes = [",".join(map(str, shapes))]
    try:
        return [str(Input.parse(_text(shape))) for shape in shapes]
    except WrongInput as error:
        raise ValueError(str(error).removeprefix("input ").replace("\n", "; ")) from None


def _percent(written: object) -> Fraction:
    text = str(written) if type(written) is int else written
    if not isinstance(text, str) or len(text) > 20 or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):  # noqa: PLR2004  # longer is a slip
        raise ValueError(f"{as_written(written)} is no percentage: write a number such as 2 or 0.5")
    return Fraction(text)


def _day(written: object) -> date:
    try:
        if isinstance(written, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", written):
            return date.fromisoformat(written)
    except ValueError:  # such as 31 February
        pass
    raise ValueError(f"{as_written(written)} is no date: write year, month and day as in 2027-01-31")


def _number_schema(pattern: str, examples: list[str]) -> dict[str, Any]:
    either = [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": pattern}]
    return {"anyOf": either, "examples": examples}


_COUNT_SCHEMA = _number_schema(COUNT_PATTERN, ["22.5M", "600K"])
_SIZE_SCHEMA = _number_schema(SIZE_PATTERN, ["90MB", "1.5GiB"])
_DAY_SCHEMA = {"type": "string", "format": "date", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}

_Count = Annotated[int, PlainValidator(parse_count), WithJsonSchema(_COUNT_SCHEMA)]
_Size = Annotated[int, PlainValidator(parse_size), WithJsonSchema(_SIZE_SCHEMA)]
_CountOrSize = Annotated[
    int,
    PlainValidator(lambda written: written),  # which of the two, the rule beside it decides
    WithJsonSchema({"anyOf": [*_COUNT_SCHEMA["anyOf"], *_SIZE_SCHEMA["anyOf"][1:]], "examples": ["23M", "95MB"]}),
]
_Text = Annotated[str, PlainValidator(_text), WithJsonSchema({"type": "string", "minLength": 1})]
_Routing = Annotated[
    str, PlainValidator(_routing), WithJsonSchema({"type": "string", "pattern": r"^.+=[0-9]+/[0-9]+$"})
]
_Inputs = Annotated[
    list[str],
    PlainValidator(_inputs),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": ["string", "integer"]}, "minItems": 1},
            ],
            "examples": ["1,3,224,224", ["input_ids=1,128:int64"]],
        }
    ),
]
_Percent = Annotated[Fraction, PlainValidator(_percent), WithJsonSchema({"type": "number", "minimum": 0})]
_Day = Annotated[date, PlainValidator(_day), WithJsonSchema(_DAY_SCHEMA)]
_Version = Annotated[int, PlainValidator(_version), WithJsonSchema({"const": VERSION})]


class _Bounds(_Strict):
    """A limit: a bare number is an inclusive maximum."""

    @model_validator(mode="before")
    @classmethod
    def _bare_is_max(cls, written: object) -> object:
        return written if isinstance(written, dict) else {"max": written}

    @model_validator(mode="after")
    def _can_be_met(self) -> _Bounds:
        self.bounds()
        return self

    def bounds(self) -> tuple[int | None, int | None]:
        """Return the maximum and the minimum."""
        return bounds({name: getattr(self, name) for name in self.model_fields_set})

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        mapping = handler.resolve_ref_schema(handler(schema))
        bare = mapping["properties"]["max"]
        described = {"description": mapping.pop("description"), "title": mapping.pop("title")}
        return {**described, "anyOf": [{"anyOf": bare["anyOf"]}, {**mapping, "minProperties": 1}]}


class _CountBounds(_Bounds):
    """A number of elements, at most: such as 22500000, 22.5M or 600K; or bounds: {max, min} or {exactly}."""

    max: _Count | None = Field(default=None, description="The most elements, inclusive.")
    min: _Count | None = Field(default=None, description="The fewest elements, inclusive.")
    exactly: _Count | None = Field(default=None, description="The only number of elements that will do.")


class _SizeBounds(_Bounds):
    """A number of bytes, at most: such as 90000000, 90MB or 1.5GiB; or bounds: {max, min} or {exactly}."""

    max: _Size | None = Field(default=None, description="The most bytes, inclusive.")
    min: _Size | None = Field(default=None, description="The fewest bytes, inclusive.")
    exactly: _Size | None = Field(default=None, description="The only number of bytes that will do.")


class _Limits(_Strict):
    """Limits by what they count."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    total: _CountBounds | None = Field(default=None, description="Elements of all parameters, each tensor once.")
    trainable: _CountBounds | None = Field(default=None, description="Elements that require a gradient.")
    frozen: _CountBounds | None = Field(default=None, description="Elements that do not require a gradient.")
    active: _CountBounds | None = Field(default=None, description="Elements that one token passes through.")
    bytes: _SizeBounds | None = Field(default=None, description="What the parameters take in storage: 90MB, 1.5GiB.")
    buffers: _CountBounds | None = Field(default=None, description="Elements of all buffers, each once.")

    @model_validator(mode="after")
    def _limits_something(self) -> _Limits:
        if not self.model_fields_set:
            raise ValueError(f"limits nothing: give one of {', '.join(type(self).model_fields)}")
        return self


class _LayerLimits(_Limits):
    """Limits on the layers that a pattern matches; those directly here are on their sum."""

    sum: _Limits | None = Field(default=None, description="Limits on the sum over all layers that match.")
    each: _Limits | None = Field(default=None, description="Limits on every layer that matches, by itself.")

    @model_validator(mode="after")
    def _says_it_once(self) -> _LayerLimits:
        twice = self.model_fields_set & (self.sum.model_fields_set if self.sum else set())
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))} is limited here and again under sum, which is the same")
        return self


class _Allowance(_Strict):
    """A higher maximum for a time."""

    rule: Rule = Field(description="Which limit of the model's budget is lifted.")
    max: _CountOrSize = Field(description="The maximum that holds instead.")
    until: _Day = Field(description="The last day, as in 2027-01-31; afterwards the limit holds again.")
    reason: _Text = Field(description="Why, for whoever reads this next.")

    @field_validator("max", mode="after")
    @classmethod
    def _in_its_unit(cls, written: object, info: ValidationInfo) -> int:
        if "rule" not in info.data:  # a mistake of its own, and this may be right
            return 0
        return parse_size(written) if info.data["rule"] == "bytes" else parse_count(written)


class _Growth(_Strict):
    """How much a model may grow against models.lock.json; too much is more than both."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    percent: _Percent | None = Field(default=None, description="In percent of what is locked, such as 2 or 0.5.")
    params: _Count | None = Field(default=None, description="In elements, such as 50K.")

    @model_validator(mode="after")
    def _limits_something(self) -> _Growth:
        if not self.model_fields_set:
            raise ValueError("limits nothing: give percent, params or both")
        return self


class _Defaults(_Strict):
    """What holds for every model that does not say otherwise."""

    args: dict[str, Any] | None = Field(default=None, description="Keyword arguments for the model's constructor.")
    weights: Annotated[
        str | None,
        PlainValidator(lambda written: None if written is None else _text(written)),
        WithJsonSchema({"type": ["string", "null"], "minLength": 1}),
    ] = Field(
        default=None, description="Published weights whose variant of the architecture is meant; they are not fetched."
    )
    freeze: list[_Text] | None = Field(default=None, description="Patterns of the parameters that count as frozen.")
    unfreeze: list[_Text] | None = Field(default=None, description="Patterns of those that train; wins over freeze.")
    active: list[_Routing] | None = Field(
        default=None, description="How many experts of a mixture a token passes through, such as '*.experts=2/8'."
    )
    input: _Inputs | None = Field(
        default=None, description="Shapes for one forward, from which lazy layers get theirs: 1,3,224,224."
    )
    device: Literal["auto", "meta", "cpu"] | None = Field(
        default=None,
        description="Build without memory (meta), in real memory (cpu), or that only as a last resort (auto).",
    )
    trust_remote_code: bool | None = Field(
        default=None, description="Run the Python code that comes with a transformers configuration, if it needs that."
    )
    budget: _Limits | None = Field(default=None, description="Limits on the whole model.")
    layers: dict[str, _LayerLimits] | None = Field(
        default=None, description="Limits on layers, by a pattern of their dotted names: head, blocks.*.attn."
    )
    allow: list[_Allowance] | None = Field(default=None, description="Higher maxima for a time.")
    growth: _Growth | None = Field(default=None, description="How much the model may grow against models.lock.json.")


class _Model(_Defaults):
    """A model, and what it may cost."""

    target: _Text = Field(
        description="What to count: resnet50, net.py:Net, package.module:attr, …; a path is relative to this file."
    )
    like: _Text | None = Field(
        default=None, description="The model that a file's weights are for: it decides which of them are buffers."
    )


class _File(_Strict):
    """Parameter budgets, which paramcount check holds models against."""

    version: _Version = Field(description="The version of this format.")
    defaults: _Defaults = Field(
        default=_Defaults(), description="Merged under every model, key by key; lists are replaced."
    )
    models: dict[str, _Model] = Field(
        description="The models, by a name of your choice.", json_schema_extra={"minProperties": 1}
    )

    @field_validator("models", mode="after")
    @classmethod
    def _has_models(cls, models: dict[str, _Model]) -> dict[str, _Model]:
        if not models:
            raise ValueError("names no model: give at least one")
        return models


class _Schema(GenerateJsonSchema):
    """JSON Schema without the ``null`` that stands for an absent key in Python, and without its default."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


# From the grammar to values -------------------------------------------------------------------------------------------


def _merged(written: _File, name: str, key: str) -> Any:
    """Return a model's own value of a key, else the defaults'; None where neither says."""
    model = written.models[name]
    return getattr(model if key in model.model_fields_set else written.defaults, key)


def _sections(written: _File, name: str) -> Iterator[tuple[_Steps, _Defaults]]:
    """Yield what a model is merged from: the later wins."""
    yield ("defaults",), written.defaults
    yield ("models", name), written.models[name]


def _spec(name: str, written: _File, document: _Document) -> ModelSpec:
    args: dict[str, Any] = {}
    places: dict[str, Location] = {}
    for path, section in _sections(written, name):
        args |= section.args or {}
        places |= {key: document.place(*path, key) for key in section.model_fields_set}
    return ModelSpec(
        name,
        written.models[name].target,
        Budget(
            tuple(_limits(written, name, document)),
            tuple(_allowances(written, name, document)),
            _growth(written, name, places),
        ),
        document.place("models", name),
        args,
        _merged(written, name, "weights"),
        tuple(_merged(written, name, "freeze") or ()),
        tuple(_merged(written, name, "unfreeze") or ()),
        tuple(_merged(written, name, "active") or ()),
        tuple(_merged(written, name, "input") or ()),
        _merged(written, name, "device") or "auto",
        _merged(written, name, "trust_remote_code") or False,
        written.models[name].like,
        places,
    )


def _limits(written: _File, name: str, document: _Document) -> list[Limit]:
    """Return all limits on a model, those on the whole of it first."""
    limits: dict[Hashable, Limit] = {}
    defaults: dict[Hashable, _Bounds] = {}
    for path, section in _sections(written, name):
        groups: list[tuple[Layers | None, _Steps, _Limits | None]] = [(None, (*path, "budget"), section.budget)]
        for pattern, asked in (section.layers or {}).items():
            below = (*path, "layers", pattern)
            here = document.place(*below)
            groups += [
                (Layers(pattern, location=here), below, asked),
                (Layers(pattern, location=here), (*below, "sum"), asked.sum),
                (Layers(pattern, each=True, location=here), (*below, "each"), asked.each),
            ]
        for layers, above, group in groups:
            for rule in RULES:
                if (limit := getattr(group, rule, None)) is not None:
                    key = (rule, layers and (layers.pattern, layers.each))
                    most, least = _with_default(limit, defaults.get(key))
                    defaults[key] = limit
                    limits[key] = Limit(rule, most, least, layers, document.place(*above, rule))
    return sorted(limits.values(), key=lambda limit: limit.layers is not None)


def _with_default(own: _Bounds, default: _Bounds | None) -> tuple[int | None, int | None]:
    """Return a model's own bounds, and the default's where it has none of that name.

    A minimum of its own lifts no maximum, and only an ``exactly`` of its own lifts that of the defaults.
    """
    if default is None or "exactly" in own.model_fields_set:
        return own.bounds()
    (most, least), (own_most, own_least) = default.bounds(), own.bounds()
    if "exactly" in default.model_fields_set:
        maxima, minima = [most, own_most], [least, own_least]
        return min(each for each in maxima if each is not None), max(each for each in minima if each is not None)
    return most if own_most is None else own_most, least if own_least is None else own_least


def _allowances(written: _File, name: str, document: _Document) -> Iterator[Allowance]:
    for path, entry in _allow_entries(written, name):
        yield Allowance(entry.rule, entry.max, entry.until, entry.reason, document.place(*path))


def _allow_entries(written: _File, name: str) -> Iterator[tuple[_Steps, _Allowance]]:
    own = "allow" in written.models[name].model_fields_set
    for index, entry in enumerate(_merged(written, name, "allow") or ()):
        yield (*(("models", name) if own else ("defaults",)), "allow", index), entry


def _growth(written: _File, name: str, places: Mapping[str, Location]) -> Growth | None:
    merged: dict[str, Any] = {}
    for _, section in _sections(written, name):
        if section.growth is not None:
            merged |= {key: getattr(section.growth, key) for key in section.growth.model_fields_set}
    return Growth(**merged, location=places["growth"]) if merged else None


# Mistakes -------------------------------------------------------------------------------------------------------------


def _validated(document: _Document) -> tuple[_File | None, list[Problem]]:
    """Return all mistakes of grammar, and what is sound beside them, so that it can be searched for further ones."""
    mistakes: list[ErrorDetails] | None = None
    while True:
        written = None
        try:
            written, left = _File.model_validate(document.data), []
        except ValidationError as error:
            left = error.errors(include_url=False)
        if mistakes is None:  # later ones only follow from what was cut away
            mistakes = left
        if not left or not all([_cut_away(mistake, document.data) for mistake in left]):  # noqa: C419  # cut all of them
            break
    # Where the YAML itself is wrong, what the grammar makes of it is beside the point.
    places = {problem.location for problem in document.problems}
    problems = [_problem(mistake, document) for mistake in mistakes]
    return written, document.problems + [problem for problem in problems if problem.location not in places]


def _cut_away(mistake: ErrorDetails, data: Any) -> bool:
    """Take a mistake out of ``data``, with as little as can be around it; return whether that was possible."""
    holder, key = None, None
    for step in mistake["loc"]:
        if not isinstance(data, dict):
            break
        holder, key = data, step
        data = data.get(step)
    if holder is None:
        return False
    if mistake["type"] == "missing" and key == mistake["loc"][-1]:
        stand_in = {"version": VERSION, "target": "?"}
        if key not in stand_in:
            return False
        holder[key] = stand_in[str(key)]
    else:
        holder.pop(key, None)
    return True


def _problem(mistake: ErrorDetails, document: _Document) -> Problem:
    loc, written = mistake["loc"], mistake["input"]
    match mistake["type"]:
        case "extra_forbidden":
            keys = list(_model_at(loc[:-1]).model_fields)
            close = [repr(key) for key in closest(str(loc[-1]), keys, most=1)]
            cure = did_you_mean(close) or f"valid here: {', '.join(keys)}"
            return Problem(document.place(*loc), f"unknown key {as_written(loc[-1])}; {cure}")
        case "missing":
            return Problem(document.place(*loc[:-1]), f"{loc[-1]!r} is missing")
        case "model_type" | "dict_type" | "model_attributes_type":
            message = _NO_VALUE if written is None else f"{as_written(written)} is no mapping of keys to values"
        case "list_type":
            message = f"{as_written(written)} is no list: write it in [ ]"
        case "bool_type":
            message = f"{as_written(written)} is neither true nor false"
        case "literal_error":
            words = re.findall(r"'([^']*)'", mistake["ctx"]["expected"])
            cure = did_you_mean(closest(str(written), words)) or f"there are {', '.join(words)}"
            message = f"{as_written(written)} is unknown; {cure}"
        case "value_error":
            message = str(mistake["ctx"]["error"])
        case _:
            message = mistake["msg"]
    place = document.place(*loc) if written is None else document.value_place(*loc)
    label = document.label(*loc)
    return Problem(place, f"{label}: {message}" if label else message)


def _model_at(loc: _Steps) -> type[BaseModel]:
    """Return the part of the grammar that a place in the file follows."""
    kind: Any = _File
    for step in loc:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(step)].annotation
            kind = next((choice for choice in get_args(kind) if get_args(kind)[-1] is NoneType), kind)
        else:  # dict[str, …] or list[…]
            kind = get_args(kind)[-1]
    assert isinstance(kind, type)  # noqa: S101  # as only models have keys that can be unknown
    return kind


def _misfits(written: _File, document: _Document) -> Iterator[Problem]:
    """Yield what is sound by itself, and makes no sense together."""
    for name in written.models:
        limits = _limits(written, name, document)
        for limit, contradiction in contradictions(limits):
            if limit.location is not None:
                yield Problem(limit.location, f"{limit.rule}: {contradiction}")
        yield from _vain_allowances(written, name, limits, document)


def _vain_allowances(written: _File, name: str, limits: Iterable[Limit], document: _Document) -> Iterator[Problem]:
    maxima = {limit.rule: limit.max for limit in limits if limit.layers is None}
    seen: set[Rule] = set()
    for path, entry in _allow_entries(written, name):
        rule, place = entry.rule, document.place(*path, "rule")
        most = maxima.get(rule)
        # A limit that is there, but wrong, is a mistake of its own.
        wrong = rule not in maxima and any(
            document.holds(*above, "budget", rule) for above, _ in _sections(written, name)
        )
        if rule in seen:
            yield Problem(place, f"rule: {rule} has an allowance already")
        elif most is None and not wrong:
            yield Problem(
                place, f"rule: the budget of {as_written(name)} has no maximum for {rule} that could be lifted"
            )
        elif most is not None and entry.max <= most:
            shown = size(most) if rule == "bytes" else short(most)
            message = (
                f"max: allows nothing, for the budget of {as_written(name)} has {shown} already: remove the allowance"
            )
            yield Problem(document.place(*path, "max"), message)
        seen.add(rule)


# The file as nodes ----------------------------------------------------------------------------------------------------

# Plain words that YAML 1.1 reads as something else than 1.2 does: https://yaml.org/spec/1.2.2/ext/changes/ and
# https://yaml.org/type/. An argument that is meant as the one and read as the other builds a different model.
_TRAP = re.compile(
    r"(?i:yes|no|on|off)|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?|[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*_[0-9_.]*"
)
_PLAIN_INT = re.compile(r"0|-?[1-9][0-9]{0,17}")
_UNFIT = re.compile("[\0\ud800-\udfff]")  # can be escaped in YAML, and neither be printed nor name a file
_MOST_ALIASED = 100_000  # nodes by alias; a few lines of aliases of aliases come to billions


class _Loader(CoreLoader):
    """A loader that takes note of tags, and goes on without them."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.tags: list[tuple[str, yaml.Mark]] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs do not type it
        if getattr(event, "tag", None) is not None:
            self.tags.append((event.tag, event.start_mark))
            event.tag = None
        return super().compose_node(parent, index)


class _Document:
    """A file's content as plain values, what is wrong with its YAML, and the place of everything in it.

    Outside ``args``, a value is nothing, true or false, a plain decimal integer, or text: there, ``1e6``, ``0777``
    and ``25.5`` stay as they are written, and whoever expects a number can say what is wrong with them.
    """

    def __init__(self, data: bytes, file: str) -> None:
        self._file = file
        self.problems: list[Problem] = []
        self._seen: set[int] = set()
        self._visits = 0
        self._loader = loader = _Loader(self._readable(data))
        try:
            root = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark or loader.get_mark()
            self._fail(self._at(mark), _syntax_error(error))
        except (ValueError, OverflowError) as error:  # an escape such as "\UFFFFFFFF", a %YAML of 5,000 digits
            self._fail(self._at(loader.get_mark()), f"not YAML: {error}")
        for tag, mark in loader.tags:
            self._note(mark, f"a tag ({as_written(tag)}) has no place here: write the value alone")
        if root is None:
            self._fail(Location(file, 1, 1), "the file is empty; paramcount init writes one to start from")
        self._root: yaml.Node = root
        self.data = self._value(root, (), frozenset())

    def place(self, *path: str | int) -> Location:
        """Return where a key is, or an item of a list; as much of ``path`` counts as there is."""
        key, value, _ = self._find(path)
        return self._at((key or value).start_mark)

    def value_place(self, *path: str | int) -> Location:
        """Return where the value of a key is."""
        return self._at(self._find(path)[1].start_mark)

    def holds(self, *path: str | int) -> bool:
        """Whether the file has something there, right or wrong."""
        return len(self._find(path)[2]) == len(path)

    def label(self, *path: str | int) -> str:
        """Return what to call a place: «total», «freeze[0]», or nothing for the whole file."""
        found = self._find(path)[2]
        words = [word if str(word).isprintable() else as_written(word) for word in found]
        if words and isinstance(words[-1], int):
            return f"{words[-2]}[{words[-1]}]"
        return str(words[-1]) if words else ""

    def _find(self, path: _Steps) -> tuple[yaml.Node | None, yaml.Node, _Steps]:
        """Return the deepest key and value on ``path``, and how much of it that is."""
        key: yaml.Node | None = None
        value = self._root
        for depth, step in enumerate(path):
            if isinstance(value, yaml.MappingNode):
                pairs = [(k, v) for k, v in value.value if isinstance(k, yaml.ScalarNode) and k.value == step]
                if not pairs:
                    return key, value, path[:depth]
                key, value = pairs[-1]
            elif isinstance(value, yaml.SequenceNode) and isinstance(step, int) and step < len(value.value):
                key, value = None, value.value[step]
            else:
                return key, value, path[:depth]
        return key, value, path

    def _readable(self, data: bytes) -> str:
        """Return the text, or fail at the first thing in it that is none."""
        text = data.decode("utf-8", "replace").removeprefix("\ufeff")  # which Windows' editors put first
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            before = data[: error.start].decode("utf-8").removeprefix("\ufeff")
            message = f"byte 0x{data[error.start]:02x} is not UTF-8: save the file as UTF-8"
            self._fail(self._position(len(before)), message)
        if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(text):
            message = f"character U+{ord(unprintable[0]):04X} has no place in YAML"
            self._fail(self._position(unprintable.start()), message)
        return text

    def _position(self, index: int) -> Location:
        # By \n alone, as editors and git count lines; PyYAML's own count has further line ends, such as U+2028.
        line = bisect_right(self._line_starts, index)
        return Location(self._file, line, index - self._line_starts[line - 1] + 1)

    def _at(self, mark: yaml.Mark) -> Location:
        return self._position(mark.index)

    def _note(self, mark: yaml.Mark, message: str) -> None:
        self.problems.append(Problem(self._at(mark), message))

    def _fail(self, location: Location, message: str) -> NoReturn:
        raise ConfigError([*self.problems, Problem(location, message)])

    def _value(self, node: yaml.Node, path: _Steps, above: frozenset[int]) -> Any:
        """Return a node's value, and take note of what is wrong with it."""
        self._visits += 1
        self._seen.add(id(node))
        if self._visits - len(self._seen) > _MOST_ALIASED:
            self._fail(self._at(node.start_mark), "aliases of aliases come to more than can be read")
        if len(above) > DEEPEST:
            self._fail(self._at(node.start_mark), f"nested more than {DEEPEST} levels deep")
        if id(node) in above:
            self._note(node.start_mark, "this holds an alias of itself, which has no end")
            return None
        above |= {id(node)}
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, argument=_in_args(path))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index), above) for index, item in enumerate(node.value)]
        values: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in values:
                self._note(key_node.start_mark, f"duplicate key {as_written(key)}: it is on line {lines[key]} already")
                if path == ("models",):  # both are searched for mistakes: neither hides those of the other
                    mark = key_node.start_mark
                    key = key_node.value = f"{key} ({mark.line + 1}:{mark.column + 1})"
            lines.setdefault(key, key_node.start_mark.line + 1)
            values[key] = self._value(value_node, (*path, key), above)
        return values

    def _key(self, node: yaml.Node, path: _Steps) -> Any:
        """Return a key: as it is written, but for one within an argument; None for what is none."""
        if not isinstance(node, yaml.ScalarNode):
            self._note(node.start_mark, "a key is to be a single word, not a list or a mapping")
        elif node.style is None and node.value == "<<":
            self._note(node.start_mark, "YAML 1.2 has no merge keys (<<): write the keys out, or put them in defaults")
        elif not node.value.strip() or node.tag.endswith(":null"):
            self._note(node.start_mark, "a key is empty; one that is meant as text wants quotes")
        else:
            return self._scalar(node, argument=True) if _in_args(path[:-1]) else self._text(node)
        return None

    def _text(self, node: yaml.ScalarNode) -> str:
        if unfit := _UNFIT.search(node.value):
            self._note(node.start_mark, f"character U+{ord(unfit[0]):04X} has no place here")
            return "?"
        return str(node.value)

    def _scalar(self, node: yaml.ScalarNode, *, argument: bool) -> Any:
        kind = node.tag.rpartition(":")[2]
        if argument and node.style is None and _TRAP.fullmatch(node.value):
            differ = "YAML 1.1 and 1.2 differ over what this is"
            self._note(
                node.start_mark, f"{as_written(node.value)}: {differ}; write true, false or plain digits, or quote it"
            )
        if kind == "str" or (kind in {"int", "float"} and not argument and not _PLAIN_INT.fullmatch(node.value)):
            return self._text(node)
        try:
            return self._loader.construct_object(node)
        except yaml.MarkedYAMLError as error:
            self._note(node.start_mark, str(error.problem))
            return None


def _in_args(path: _Steps) -> bool:
    """Whether a path leads to a constructor's arguments, or into them."""
    return path[1:2] == ("args",) if path[:1] == ("defaults",) else path[:1] == ("models",) and path[2:3] == ("args",)


def _syntax_error(error: yaml.MarkedYAMLError) -> str:
    """Return what is wrong with a file that is not YAML, and the cure where there is a usual one."""
    problem = error.problem or "not YAML"
    if "'\\t'" in problem:
        return "a tab has no place here: YAML is indented and separated with spaces"
    if "alias" in f"{problem} {error.context}":
        return f"{problem}: quote a pattern that begins with *"
    if "single document" in f"{error.context}":
        return "a second document begins here: the file is to hold one"
    return f"not YAML: {problem}"
