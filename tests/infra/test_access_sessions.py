import pytest

from infra.access.sessions import Forms, Sessions, Signer


def test_a_login_lasts_its_time() -> None:
    sessions = Sessions(Signer(), 100.0)
    cookie = sessions.open("ann", 10.0)
    found = sessions.find(cookie, 109.9)
    assert found is not None
    assert found.owner == "ann"
    assert sessions.find(cookie, 110.0) is None
    assert sessions.find(cookie, 20.0) is None  # gone for good


def test_a_login_that_was_ended_cannot_be_used_again() -> None:
    sessions = Sessions(Signer(), 100.0)
    one, other = sessions.open("ann", 0.0), sessions.open("ann", 0.0)
    assert sessions.close(one)
    assert not sessions.close(one)
    assert sessions.find(one, 1.0) is None
    assert sessions.find(other, 1.0) is not None


def test_all_logins_of_one_key_end_together() -> None:
    sessions = Sessions(Signer(), 100.0)
    anns = [sessions.open("ann", 0.0) for _ in range(3)]
    bobs = sessions.open("bob", 0.0)
    assert sessions.close_all_of("ann") == 3
    assert [sessions.find(cookie, 1.0) for cookie in anns] == [None] * 3
    assert sessions.find(bobs, 1.0) is not None


@pytest.mark.parametrize("cookie", ["", ".", "a.b", "x" * 5_000, "1\n.2", "\udcff.\udcff", "é.é"])
def test_made_up_cookies_are_none(cookie: str) -> None:
    assert Sessions(Signer(), 100.0).find(cookie, 0.0) is None


def test_a_cookie_of_another_process_or_purpose_is_none() -> None:
    signer = Signer(b"k" * 32)
    sessions = Sessions(signer, 100.0)
    number = sessions.open("ann", 0.0).rpartition(".")[0]
    assert sessions.find(Signer(b"o" * 32).sign("session", number), 0.0) is None
    assert sessions.find(signer.sign("form", number), 0.0) is None
    assert sessions.find(signer.sign("session", number), 0.0) is not None


def test_too_many_logins_end_the_oldest_and_ended_ones_take_no_room() -> None:
    sessions = Sessions(Signer(), 100.0, most=10)
    cookies = [sessions.open(str(number), 0.0) for number in range(12)]
    assert [sessions.find(cookie, 1.0) is not None for cookie in cookies] == [False] * 2 + [True] * 10
    sessions.open("later", 100.0)
    assert len(sessions) == 1


def test_a_form_is_good_once_for_its_own_browser_and_time() -> None:
    forms = Forms(Signer())
    form = forms.new("browser", 0.0)
    assert not forms.use(form, "another", 1.0)
    assert not forms.use(form, "", 1.0)
    assert forms.use(form, "browser", 1.0)
    assert not forms.use(form, "browser", 2.0)
    late = forms.new("browser", 0.0)
    assert not forms.use(late, "browser", 600.0)


@pytest.mark.parametrize("form", ["", "x", "a.b.c", "a.1e9999.x", "\udcff"])
def test_made_up_forms_are_none(form: str) -> None:
    assert not Forms(Signer()).use(form, "browser", 0.0)


def test_forms_that_nobody_sends_in_take_no_room() -> None:
    forms = Forms(Signer())
    for _ in range(1_000):
        forms.new("browser", 0.0)
    assert not forms._used
