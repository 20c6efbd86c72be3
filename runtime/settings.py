"""Settings from the environment: one frozen object per program, secrets from files, errors as sentences.

A program declares its settings as a subclass with an environment prefix; each field has a description that says what
it is and in which unit. A field of type SecretStr (and only such) may also be given as NAME_FILE, the path of a file
with its value. Flags on the command line are passed as keyword arguments and win over the environment.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import BeforeValidator, PlainValidator, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from runtime.private_files import why_not_private
from runtime.redaction import redact_text
from runtime.serving import Address, StartRefused, parse_address

# Larger than any key or password; whoever names a wrong file hears of it instead of waiting for gigabytes.
SECRET_FILE_MAX_BYTES = 65_536


def _read_address(value: object) -> Address:
    return value if isinstance(value, Address) else parse_address(str(value))


# The type of a setting that says where to listen or connect, as HOST:PORT.
AddressSetting = Annotated[Address, NoDecode, PlainValidator(_read_address)]


def _empty_is_none(value: object) -> object:
    # As a path, nothing would be the folder that the program was started in.
    return None if value == "" else value


# The type of a setting that names a file, or none.
FileSetting = Annotated[Path | None, BeforeValidator(_empty_is_none)]


class SettingsUnusable(StartRefused):
    """The settings cannot be used; the text is one sentence or more per line, one line per setting."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class ProgramSettings(BaseSettings):
    """Base of a program's settings: give `model_config` an `env_prefix` and every field a description."""

    other_names: ClassVar[Mapping[str, str]] = {}
    """What people call a setting, without the prefix, and what it is called here."""
    other_secrets: ClassVar[Mapping[str, str]] = {}
    """Secrets that a library takes from the environment by itself, and what to do instead."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )

    @classmethod
    def load(cls, **flags: object) -> Self:
        """Read the environment, with the flags that are not None on top; SettingsUnusable names all that is wrong."""
        environment = EnvSettingsSource(cls)
        problems = _unknown_names(cls, environment) | _unusable_secrets(cls, environment)
        problems |= _secrets_in_clear(cls, environment)
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            settings = cls(**given)
        except ValidationError as error:
            problems = _sentences_by_field(cls, error, environment, given) | problems
        if problems:
            raise SettingsUnusable(list(problems.values()))
        return settings

    @classmethod
    def why_files_only(cls, _environment: Mapping[str, str | None]) -> str | None:
        """Why secrets may come from files only, as the end of a sentence; None where the environment may hold them.

        The environment is by names in small letters.
        """
        return None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then secrets from files; no .env file that someone forgot in a folder."""
        return init_settings, env_settings, _SecretFiles(settings_cls)


class _SecretFiles(EnvSettingsSource):
    """Values of secret fields from the files that NAME_FILE variables name; unreadable ones are left to `load`."""

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in _secret_fields(self.settings_cls):
            path = self.env_vars.get(f"{self.env_prefix}{name}_file".lower())
            if path:
                text, problem = read_secret(path)
                if problem is None:
                    values[name] = text
        return values


def settings_sentences(settings_cls: type[ProgramSettings], error: ValidationError) -> list[str]:
    """One sentence per wrong setting: its environment variable, what was expected, what to do."""
    return list(_sentences_by_field(settings_cls, error, EnvSettingsSource(settings_cls), {}).values())


def render_settings(settings: ProgramSettings) -> str:
    """The settings as NAME=value lines for --check-config; of a secret only whether it is set."""
    lines = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            shown = "[set, not shown]" if value.get_secret_value() else "[empty]"
        else:
            shown = "" if value is None else redact_text(str(value))
        lines.append(f"{_variable(type(settings), name)}={shown}")
    return "\n".join(lines) + "\n"


def _variable(settings_cls: type[BaseSettings], field: str) -> str:
    return f"{settings_cls.model_config.get('env_prefix', '')}{field}".upper()


def _secret_fields(settings_cls: type[BaseSettings]) -> list[str]:
    return [name for name, field in settings_cls.model_fields.items() if _is_secret(field)]


def _is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)


def read_secret(path: str | Path) -> tuple[str, str | None]:
    """The file's text without surrounding white space, or why it cannot be had."""
    if (why := why_not_private(Path(path))) is not None:
        return "", why
    try:
        with Path(path).open("rb") as file:
            text = file.read(SECRET_FILE_MAX_BYTES + 1).decode("utf-8").strip()
    except OSError as error:
        return "", str(error.strerror)
    except ValueError:
        return "", "it is not UTF-8 text"
    if not text:
        return "", "it is empty"
    return (text, None) if len(text) <= SECRET_FILE_MAX_BYTES else ("", "it is longer than 65536 bytes")


def _unusable_secrets(settings_cls: type[BaseSettings], environment: EnvSettingsSource) -> dict[str, str]:
    problems = {}
    for name in _secret_fields(settings_cls):
        variable = _variable(settings_cls, name)
        path = environment.env_vars.get(f"{variable}_FILE".lower())
        if not path:
            continue
        if environment.env_vars.get(variable.lower()) is not None:
            problems[name] = f"{variable} and {variable}_FILE are both set: unset one of them."
        elif (reason := read_secret(path)[1]) is not None:
            problems[name] = (
                f"{variable}_FILE names {path}, which cannot be used: {reason}. Name a file with the value."
            )
    return problems


def _secrets_in_clear(settings_cls: type[ProgramSettings], environment: EnvSettingsSource) -> dict[str, str]:
    """Other programs of the same user can read an environment, and so does whoever sees it dumped."""
    why = settings_cls.why_files_only(environment.env_vars)
    if why is None:
        return {}
    problems = {}
    for name in _secret_fields(settings_cls):
        variable = _variable(settings_cls, name)
        if environment.env_vars.get(variable.lower()) and not environment.env_vars.get(f"{variable}_FILE".lower()):
            problems[name] = (
                f"{variable} holds a secret in the environment, and {why}: unset it, write the value to a file for this"
                f" user alone (chmod 600) and set {variable}_FILE to its path."
            )
    if _secret_fields(settings_cls):
        for name, instead in settings_cls.other_secrets.items():
            if environment.env_vars.get(name.lower()):
                problems[name] = f"{name} holds a secret in the environment, and {why}: unset it, and {instead}."
    return problems


def _unknown_names(settings_cls: type[ProgramSettings], environment: EnvSettingsSource) -> dict[str, str]:
    """A misspelt variable would otherwise leave a default in force without a word.

    A command that needs a part of a program's settings reads a base class of them, in the program's own environment.
    """
    known = set()
    for program in (settings_cls, *_descendants(settings_cls)):
        known |= {_variable(program, name) for name in program.model_fields}
        known |= {f"{_variable(program, name)}_FILE" for name in _secret_fields(program)}
    prefix = str(settings_cls.model_config.get("env_prefix", "")).upper()
    given = {name.upper() for name in environment.env_vars if prefix and name.upper().startswith(prefix)}
    problems = {}
    for name in sorted(given - known):
        if _SERVICE_LINK.fullmatch(name.removeprefix(prefix)) and not _by_hand(name, environment):
            continue
        meant = settings_cls.other_names.get(name.removeprefix(prefix))
        near = [f"{prefix}{meant}"] if meant else difflib.get_close_matches(name, known, n=1)
        problems[name] = f"{name} is not a setting" + (f": did you mean {near[0]}?" if near else ": unset it.")
    return problems


# What Kubernetes sets in every container for each service beside it: for one called payments, PAYMENTS_SERVICE_HOST.
_SERVICE_LINK = re.compile(
    r"([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def _by_hand(name: str, environment: EnvSettingsSource) -> bool:
    """Whether a person may have set it: Kubernetes writes an address into NAME_PORT, a person a number."""
    value = environment.env_vars.get(name.lower()) or ""
    return re.search(r"(SERVICE|_TCP|_UDP|_SCTP)", name) is None and name.endswith("_PORT") and "://" not in value


def _sentences_by_field(
    settings_cls: type[ProgramSettings], error: ValidationError, environment: EnvSettingsSource, flags: dict[str, Any]
) -> dict[str, str]:
    sentences = {}
    for detail in error.errors(include_url=False, include_context=False):
        if detail["type"] == "default_factory_not_called":
            # A default that follows from a setting which is wrong itself; that one has its own sentence.
            continue
        name = str(detail["loc"][0]) if detail["loc"] else ""
        variable, field = _variable(settings_cls, name), settings_cls.model_fields.get(name)
        meaning = f" ({field.description})" if field is not None and field.description else ""
        if detail["type"] == "missing":
            file_form = f" or {variable}_FILE" if field is not None and _is_secret(field) else ""
            sentences[name] = f"{variable}{file_form} is not set, and has no default: set it{meaning}."
        elif field is None:
            sentences[name] = f"The settings do not fit together: {detail['msg'].removeprefix('Value error, ')}."
        else:
            # The source of a value, never the value: it may be a secret, or hold one.
            source = f"The flag for {variable}" if name in flags else variable
            default = f" for {redact_text(str(field.default))}" if field.default_factory is None else ""
            default = "" if field.is_required() else f", or leave it out{default}"
            reason = detail["msg"].removeprefix("Value error, ")
            sentences[name] = f"{source} has a value that cannot be used: {reason}. Correct it{default}{meaning}."
    return sentences


def _descendants(settings_cls: type[BaseSettings]) -> Iterator[type[BaseSettings]]:
    for child in settings_cls.__subclasses__():
        yield child
        yield from _descendants(child)
