import pytest

from models.placement import CPU, Device, PlacementError, check_weights, parse_devices, place

GPU0, GPU1, GPU2 = Device("cuda", 0), Device("cuda", 1), Device("cuda", 2)


def test_devices_are_read() -> None:
    found = parse_devices(" stt=cuda, llm = cuda:0,tts=cuda:1,tts=cuda:2 ")
    assert found == {"stt": (GPU0,), "llm": (GPU0,), "tts": (GPU1, GPU2)}
    assert parse_devices("") == {}
    assert parse_devices("tts=cpu,") == {"tts": (CPU,)}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("voice=cuda:0", "'voice=cuda:0' names none of stt, llm, tts"),
        ("tts", "names none"),
        ("tts=gpu:0", "a device is cpu, cuda or cuda:N"),
        ("tts=cuda:x", "a device is"),
        ("stt=cuda:0,stt=cuda:1", "stt is placed twice"),
        ("tts=cuda:0,tts=cuda", "tts is placed twice"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, complaint: str) -> None:
    with pytest.raises(PlacementError, match=complaint):
        parse_devices(text)


def test_without_a_word_models_go_where_the_profile_likes_them() -> None:
    small = place("", gpu_profile=False, cuda_devices=2)
    assert (small.stt, small.llm, small.tts) == (CPU, CPU, (CPU,))
    large = place("", gpu_profile=True, cuda_devices=1, voice="csm-1b")
    assert (large.stt, large.llm, large.tts) == (GPU0, GPU0, (GPU0,))
    two = place("", gpu_profile=True, cuda_devices=2, voice="csm-1b")
    assert (two.llm, two.tts) == (GPU0, (GPU1,))
    assert str(two) == "stt=cuda:0,llm=cuda:0,tts=cuda:1"


def test_a_gpu_profile_hears_and_thinks_on_the_cpu_where_no_gpu_is() -> None:
    plan = place("", gpu_profile=True, cuda_devices=0)
    assert (plan.stt, plan.llm) == (CPU, CPU)


def test_several_voices_are_replicas() -> None:
    plan = place("llm=cuda:2,tts=cuda:0,tts=cuda:1", gpu_profile=False, cuda_devices=3, voice="csm-1b")
    assert (plan.stt, plan.llm, plan.tts) == (CPU, GPU2, (GPU0, GPU1))


def test_an_absent_gpu_names_what_works() -> None:
    with pytest.raises(PlacementError, match=r"csm-1b.*none was found.*--profile embedded.*tts=cpu"):
        place("", gpu_profile=True, cuda_devices=0, voice="csm-1b")
    with pytest.raises(PlacementError, match=r"stt=cuda:0, but no CUDA device.*--profile embedded.*stt=cpu"):
        place("stt=cuda:0", gpu_profile=True, cuda_devices=0)
    with pytest.raises(PlacementError, match=r"tts=cuda:2, but the last CUDA device is cuda:1"):
        place("tts=cuda:2", gpu_profile=True, cuda_devices=2, voice="csm-1b")


def test_a_torch_without_cuda_counts() -> None:
    with pytest.raises(PlacementError, match="that torch can use"):
        place("", gpu_profile=True, cuda_devices=1, voice="csm-1b", voice_cuda_devices=0)


def test_the_cpu_is_there_for_who_asks() -> None:
    assert place("tts=cpu", gpu_profile=True, cuda_devices=0, voice="csm-1b").tts == (CPU,)


def test_the_bundled_voice_runs_on_the_cpu_only() -> None:
    with pytest.raises(PlacementError, match="bundled voice runs on the CPU only"):
        place("tts=cuda:0", gpu_profile=True, cuda_devices=1)
    assert place("tts=cpu", gpu_profile=True, cuda_devices=1).tts == (CPU,)


@pytest.mark.parametrize(("weights", "device"), [("w8a8", GPU0), ("int8", CPU)])
def test_quantised_weights_fit_their_device(weights: str, device: Device) -> None:
    with pytest.raises(PlacementError, match=f"{weights} does not run on {device}"):
        check_weights(weights, (device,))
    check_weights("full", (CPU, GPU0))
    check_weights({"w8a8": "int8", "int8": "w8a8"}[weights], (device,))
