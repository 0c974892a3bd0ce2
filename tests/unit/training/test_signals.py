import os
import signal
import threading

import pytest

from vqgan.training.loop import Interrupted, stop_on_signals


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_sets_a_flag(number):
    with stop_on_signals() as stop:
        stop.poll()
        assert not stop.requested
        send(number)
        assert stop.requested
        with pytest.raises(Interrupted):
            stop.poll()


def test_the_second_ctrl_c_stops_at_once():
    with stop_on_signals():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_launcher_that_passes_one_ctrl_c_on_as_sigterm_is_not_impatient():
    with stop_on_signals() as stop:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            send(number)
        assert stop.requested


def test_the_handlers_of_before_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RuntimeError), stop_on_signals():
        raise RuntimeError
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_nothing_changes():
    seen = []

    def work():
        with stop_on_signals() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGTERM))]
