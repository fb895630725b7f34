"""Lets a constructor load pretrained weights that are not there: they are not fetched, and what they are is unknown.

What is asked for is recognised where libraries fetch it: a state dict, a file, or a whole model by its configuration.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from paramcount.errors import ParamcountError
from paramcount.modules.failure import NeedsNetwork, switched_off
from paramcount.modules.network import Fetches, Guard, TriesForEver, refusal_in
from paramcount.modules.substitutes import Substitute, substituted
from paramcount.modules.unfetched import Unfetched, WeightsNeeded

_WEIGHTS = re.compile(
    r"\.(?:pt|pth|pth\.tar|bin|ckpt|safetensors|pkl|npz|npy|h5|params|weights|msgpack)$", re.IGNORECASE
)


@contextmanager
def no_downloads(fetches: Fetches) -> Iterator[None]:
    """Fetch nothing: let models take weights that were not fetched, and refuse all else.

    Raises:
        NeedsNetwork: the constructor failed, because something that it needs was not fetched.

    """
    warnings.filterwarnings("ignore", message=r"for .*: copying from a non-meta parameter in the checkpoint to a meta")
    guard = Guard(fetches)
    with ExitStack() as stack:
        weights = _Weights(fetches, guard, stack)
        stack.enter_context(substituted({**guard.substitutes(), **weights.substitutes()}))
        stack.enter_context(guard.active())
        try:
            yield
            weights.conclude()
        except WeightsNeeded as error:
            error.hint = switched_off(error.__traceback__) or error.hint
            raise
        except ParamcountError:
            raise
        except (Exception, TriesForEver) as error:
            address = refusal_in(error, fetches)
            if address is not None:
                raise NeedsNetwork(address) from error
            raise


class _Weights:
    """Stands for the functions that fetch weights, and for those that read what was fetched."""

    def __init__(self, fetches: Fetches, guard: Guard, stack: ExitStack) -> None:
        self._fetches, self._guard, self._stack = fetches, guard, stack
        self._files: set[str] = set()  # that are asked for, and not there
        self._folder: Path | None = None
        self._is_heeding = self._is_pending = False
        self._libraries_own = 0  # how many loaders are at work that ask for a file and go on without

    def substitutes(self) -> dict[str, Substitute]:
        """Return what stands for whose function."""
        return {
            # A state dict.
            "torch.hub:load_state_dict_from_url": self._state_dict,
            "kornia.core.download:load_state_dict_from_url": self._state_dict,
            "torchaudio.pipelines._wav2vec2.utils:_get_state_dict": self._state_dict,
            # A file, at a place that is named.
            "torch.hub:download_url_to_file": self._download,
            "urllib.request:urlretrieve": self._retrieve,
            "facenet_pytorch.models.utils.download:download_url_to_file": self._download,
            "monai.apps.utils:download_url": self._download,
            "gdown.download:download": self._download,
            "wget:download": self._download,
            "torchvision.datasets.utils:download_url": self._into_folder,
            # A file, at a place that the library chooses.
            "huggingface_hub.file_download:hf_hub_download": self._hub_file,
            "huggingface_hub._snapshot_download:snapshot_download": self._hub_folder,
            "huggingface_hub.hf_api:HfApi.resolve_revision": self._hub_folder,
            "pooch.core:retrieve": self._chosen,
            "timm.models._hub:download_cached_file": self._chosen,
            # What reads a file.
            "torch.serialization:load": self._load,
            "safetensors.torch:load_file": self._load,
            "numpy.lib._npyio_impl:load": self._load,
            "torch.jit._serialization:load": self._whole,
            "safetensors.torch:load_model": self._load_into,
            "open_clip.factory:load_checkpoint": self._load_into,
            "timm.models._builder:load_pretrained": self._loader,
            "efficientnet_pytorch.utils:load_pretrained_weights": self._loader,
            # A model, built and filled.
            "torch.nn.modules.module:Module.load_state_dict": self._fill,
            "transformers.modeling_utils:PreTrainedModel.from_pretrained": self._transformers,
            "transformers.modeling_utils:PreTrainedModel._check_and_adjust_attn_implementation": self._attention,
            "diffusers.models.modeling_utils:ModelMixin.from_pretrained": self._diffusers,
            "segmentation_models_pytorch.encoders:get_encoder": self._encoder,
        }

    def _skip(self, name: object) -> None:
        name = name[0] if isinstance(name, list | tuple) and name else name
        self._fetches.skipped.append(str(name))

    def _weights(self) -> Unfetched:
        return Unfetched(asked=self._hear)

    def _hear(self, is_of_all: bool) -> None:  # noqa: FBT001  # its only argument
        """Heed what is made after a look at names that are not known: these may decide about it.

        Layers may follow from each of the names, and none is made; but then they are not what is put into a model.
        """
        self._is_pending = self._is_pending or is_of_all
        if not self._is_heeding:
            from torch.nn.modules.module import register_module_parameter_registration_hook

            self._is_heeding = True
            hook = register_module_parameter_registration_hook(self._doubt)
            self._stack.callback(hook.remove)

    def conclude(self) -> None:
        """Doubt what a look at names came to nothing for."""
        if self._is_pending:
            self._doubt()

    def _doubt(self, *_registered: object) -> None:
        self._fetches.decides = True

    # Fetching ---------------------------------------------------------------------------------------------------------

    def _state_dict(self, _original: Substitute, url: Any, *_args: Any, **_kwargs: Any) -> Unfetched:
        self._skip(url)
        return self._weights()

    def _download(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        url = _argument(args, kwargs, 0, "url")
        destination = _argument(args, kwargs, 1, "dst", "output", "filepath", "out")
        return self._file(url, destination) if _are_weights(url, destination) else original(*args, **kwargs)

    def _retrieve(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        url, destination = _argument(args, kwargs, 0, "url"), _argument(args, kwargs, 1, "filename")
        if str(url).startswith(("file:", "data:")) or not _are_weights(url, destination):
            return original(*args, **kwargs)
        return self._file(url, destination), {}

    def _into_folder(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        url, folder = _argument(args, kwargs, 0, "url"), _argument(args, kwargs, 1, "root")
        name = _argument(args, kwargs, 2, "filename") or _last(url)
        if not _are_weights(name):
            return original(*args, **kwargs)
        self._file(url, Path(folder) / name)
        return None

    def _chosen(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        url = _argument(args, kwargs, 0, "url")
        return self._file(url, None) if _are_weights(url) else original(*args, **kwargs)

    def _hub_file(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        repository, name = _argument(args, kwargs, 0, "repo_id"), _argument(args, kwargs, 1, "filename")
        try:
            with self._guard.unheard():  # it may tell the hub who asks, too
                return original(*args, **{**kwargs, "local_files_only": True})
        except Exception:
            if self._libraries_own or not _are_weights(name):
                self._guard.refuse(f"{name} of {repository} on the hub")
                raise
        return self._file(f"{repository}/{name}", None)

    def _hub_folder(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        try:
            with self._guard.unheard():
                return original(*args, **{**kwargs, "local_files_only": True})
        except Exception:
            names = [each for each in (kwargs.get("repo_id"), *args) if isinstance(each, str)]
            self._guard.refuse(f"{names[0] if names else 'a repository'} on the hub")
            raise

    def _file(self, asked: object, destination: Any) -> str:
        """Return the path of a file that stands for the one that was asked for; at its destination there is none."""
        self._skip(asked)
        if destination is None:
            if self._folder is None:
                self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="paramcount-")))
            destination = self._folder / _last(str(asked))
            destination.touch()
        path = os.fspath(destination)
        self._files.add(str(path))
        return str(path)

    # Reading ----------------------------------------------------------------------------------------------------------

    def _is_missing(self, file: Any) -> bool:
        place = getattr(file, "name", None) if hasattr(file, "read") else file
        return isinstance(place, str | Path) and str(place) in self._files

    def _load(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        file = _argument(args, kwargs, 0, "f", "filename", "file")
        return self._weights() if self._is_missing(file) else original(*args, **kwargs)

    def _whole(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        if self._is_missing(_argument(args, kwargs, 0, "f")):
            raise WeightsNeeded("the whole model")
        return original(*args, **kwargs)

    def _load_into(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        file = _argument(args, kwargs, 1, "filename", "checkpoint_path")
        return ([], []) if self._is_missing(file) else original(*args, **kwargs)

    def _loader(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        """Let a function that does no more than fill a model stumble over weights that are not there."""
        skipped = len(self._fetches.skipped)
        try:
            return original(*args, **kwargs)
        except Exception:
            if len(self._fetches.skipped) == skipped:
                raise
            return None

    def _fill(self, original: Substitute, model: Any, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        self._is_pending = False
        if self._fetches.skipped and isinstance(state_dict, Mapping):
            items = dict.items(state_dict) if isinstance(state_dict, dict) else state_dict.items()
            known = {key: value for key, value in items if not isinstance(value, Unfetched)}
            if not known:
                from torch.nn.modules.module import _IncompatibleKeys

                taken = state_dict.taken if isinstance(state_dict, Unfetched) else ()
                return _IncompatibleKeys([key for key in model.state_dict() if key in taken], [])
            args, kwargs, state_dict = (False, *args[1:]), {**kwargs}, known
            kwargs.pop("strict", None)
        return original(model, state_dict, *args, **kwargs)

    # Whole models -----------------------------------------------------------------------------------------------------

    def _transformers(self, original: Substitute, kind: Any, *args: Any, **kwargs: Any) -> Any:
        import torch
        from transformers import PretrainedConfig

        name, args = (args[0], args[1:]) if args else (kwargs.pop("pretrained_model_name_or_path", None), ())

        def by_configuration() -> Any:
            given = kwargs.pop("config", None)
            if not isinstance(given, PretrainedConfig):
                given, rest = kind.config_class.from_pretrained(given or name, return_unused_kwargs=True, **kwargs)
                kwargs.clear()
                kwargs.update(rest)
            for key in ("state_dict", "gguf_file", "local_files_only", "quantization_config"):
                kwargs.pop(key, None)
            # transformers itself takes a state dict instead of a name; what it lacks is as the constructor makes it.
            with redirect_stderr(StringIO()), _without_logging():
                return original(kind, None, *args, config=given, state_dict={"": torch.empty(0)}, **kwargs)

        return self._by_library(lambda: original(kind, name, *args, **kwargs), by_configuration, name)

    def _diffusers(self, original: Substitute, kind: Any, *args: Any, **kwargs: Any) -> Any:
        name = args[0] if args else kwargs.pop("pretrained_model_name_or_path", None)

        def by_configuration() -> Any:
            where = {key: kwargs[key] for key in ("subfolder", "revision", "cache_dir") if key in kwargs}
            model = kind.from_config(kind.load_config(name, **where))
            dtype = kwargs.get("torch_dtype")
            whole = set(getattr(kind, "_keep_in_fp32_modules", None) or ())
            for path, parameter in model.named_parameters() if dtype is not None else ():
                if not whole.intersection(path.split(".")):
                    parameter.data = parameter.data.to(dtype)
            return model

        return self._by_library(lambda: original(kind, name, **kwargs), by_configuration, name)

    def _attention(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        """Do without a kernel for attention that is not installed, or on the hub: it has no parameters."""
        try:
            with self._guard.unheard():
                return original(*args, **kwargs)
        except Exception:  # noqa: BLE001  # whatever says that it cannot run here
            return "eager"

    def _by_library(self, load: Any, by_configuration: Any, name: object) -> Any:
        """Return a model with the weights that are here; without any, by its configuration."""
        self._libraries_own += 1
        try:
            try:
                with self._guard.unheard(), _without_logging():
                    return load()
            except OSError:
                if name is None:
                    raise
            asked = len(self._fetches.refused)
            model = by_configuration()
            del self._fetches.refused[asked:]  # it is known here, or there would be no model
        finally:
            self._libraries_own -= 1
        self._skip(name)
        return model

    def _encoder(self, original: Substitute, *args: Any, **kwargs: Any) -> Any:
        """Build an encoder that asks the hub for a file it does not read, before it asks for its weights."""
        import inspect

        call = inspect.signature(original).bind(*args, **kwargs)
        if call.arguments.get("weights") is not None:
            self._skip(f"{call.arguments['weights']} of {call.arguments.get('name')}")
            call.arguments["weights"] = None
        return original(*call.args, **call.kwargs)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, *names: str) -> Any:
    """Return an argument that is given by its position, or under one of these names."""
    return args[position] if len(args) > position else next((kwargs[name] for name in names if name in kwargs), None)


def _are_weights(*names: object) -> bool:
    return any(_WEIGHTS.search(str(name).partition("?")[0]) for name in names if name is not None)


def _last(address: str) -> str:
    return address.partition("?")[0].rstrip("/").rpartition("/")[2] or "weights"


@contextmanager
def _without_logging() -> Iterator[None]:
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)
