"""Which device each model runs on: `stt=cuda:0,llm=cuda:0,tts=cuda:1,tts=cuda:2`. Loads nothing."""

import re
from dataclasses import dataclass
from typing import Literal

from models.base import ModelError

Role = Literal["stt", "llm", "tts"]
ROLES: tuple[Role, ...] = ("stt", "llm", "tts")
_DEVICE = re.compile(r"(cpu)|cuda(?::(\d{1,3}))?")
_EXAMPLE = "stt=cuda:0,llm=cuda:0,tts=cuda:1,tts=cuda:2"


class PlacementError(ModelError):
    """Models cannot be put where they were asked for. The message says why and what works."""


@dataclass(frozen=True, slots=True)
class Device:
    kind: Literal["cpu", "cuda"]
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"cuda:{self.index}"


CPU = Device("cpu")


@dataclass(frozen=True, slots=True)
class Placement:
    """A device for each model. Several of `tts` are replicas: a new call takes the least loaded."""

    stt: Device
    llm: Device
    tts: tuple[Device, ...]

    def __str__(self) -> str:
        voices = ",".join(f"tts={device}" for device in self.tts)
        return f"stt={self.stt},llm={self.llm},{voices}"


def parse_devices(text: str) -> dict[Role, tuple[Device, ...]]:
    """The roles that `text` names; "" names none. Raises `PlacementError`."""
    found: dict[Role, tuple[Device, ...]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, place = (part.strip() for part in item.partition("="))
        role = next((role for role in ROLES if role == name), None)
        if role is None or not equals:
            raise PlacementError(
                f"--devices: {item!r} names none of {', '.join(ROLES)}. An example: {_EXAMPLE}"
            )
        device = _parse_device(place, item)
        if role in found and (role != "tts" or device in found[role]):
            raise PlacementError(
                f"--devices: {role} is placed twice ({item}). Only tts may be repeated, for replicas of the "
                f"voice on different devices: {_EXAMPLE}"
            )
        found[role] = (*found.get(role, ()), device)
    return found


def place(
    devices: str,
    *,
    gpu_profile: bool,
    cuda_devices: int,
    voice: str = "",
    voice_cuda_devices: int | None = None,
) -> Placement:
    """Where the models of a profile go. `gpu_profile`: it prefers CUDA devices where there are any. `voice`
    names the CSM voice, or is "" for one that only runs on the CPU. `voice_cuda_devices`: how many of them
    the voice's library (torch) can use; None: all. Raises `PlacementError`."""
    asked = parse_devices(devices)
    default = Device("cuda") if gpu_profile and cuda_devices else CPU
    stt, llm = (_present(asked.get(role, (default,))[0], role, cuda_devices) for role in ("stt", "llm"))
    usable = cuda_devices if voice_cuda_devices is None else voice_cuda_devices
    return Placement(stt, llm, _place_voice(asked.get("tts"), voice, usable))


def check_weights(weights: str, devices: tuple[Device, ...]) -> None:
    """w8a8 is for CPUs and int8 for CUDA devices. Raises `PlacementError`."""
    for device in devices:
        fitting = {"w8a8": "cpu", "int8": "cuda"}.get(weights, device.kind)
        if fitting != device.kind:
            other = "int8" if device.kind == "cuda" else "w8a8"
            raise PlacementError(
                f"--voice-weights {weights} does not run on {device}: choose {other} there, or full."
            )


def _place_voice(asked: tuple[Device, ...] | None, voice: str, cuda_devices: int) -> tuple[Device, ...]:
    if not voice:
        if asked and asked != (CPU,):
            raise PlacementError(
                f"--devices: tts={asked[0]}, but the bundled voice runs on the CPU only. Leave tts out, or "
                "choose a voice of CSM with --tts."
            )
        return (CPU,)
    if asked is None:
        if cuda_devices == 0:
            raise PlacementError(
                f"The voice {voice} is meant for a CUDA device, and none was found that torch can use. "
                "`--profile embedded --tts hibari` works on this machine. `--devices tts=cpu` runs the voice "
                "on the CPU all the same, slower than real time."
            )
        # The second device, if there is one: the first has the other models.
        return (Device("cuda", min(1, cuda_devices - 1)),)
    return tuple(_present(device, "tts", cuda_devices) for device in asked)


def _parse_device(place: str, item: str) -> Device:
    match = _DEVICE.fullmatch(place)
    if match is None:
        raise PlacementError(f"--devices: {item!r}: a device is cpu, cuda or cuda:N. An example: {_EXAMPLE}")
    return CPU if match[1] else Device("cuda", int(match[2] or 0))


def _present(device: Device, role: str, cuda_devices: int) -> Device:
    if device.kind == "cpu" or device.index < cuda_devices:
        return device
    there = (
        "no CUDA device was found" if not cuda_devices else f"the last CUDA device is cuda:{cuda_devices - 1}"
    )
    works = "`--profile embedded` works without one" if not cuda_devices else "choose one that is there"
    cpu = f", or run it on the CPU all the same with `--devices {role}=cpu`" if not cuda_devices else ""
    raise PlacementError(f"--devices: {role}={device}, but {there}: {works}{cpu}.")
