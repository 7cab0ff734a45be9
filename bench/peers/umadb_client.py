"""Appends to UmaDB through its Python client. A line `CALLERS BATCH SECONDS BYTES` is answered by events a second, and the
median duration of a call in microseconds. Callers are threads, shared out over a few processes."""
import multiprocessing
import statistics
import sys
import threading
import time

import umadb

PROCESSES = 4


def loop(client, tag, batch, stop, body, times):
    while time.monotonic() < stop:
        started = time.monotonic()
        client.append([umadb.Event("vital", body, tags=[tag]) for _ in range(batch)])
        times.append((time.monotonic() - started) * 1e6)


def share(url, callers, batch, seconds, body, start, answers):
    clients = {caller: umadb.Client(url) for caller in callers}
    start.wait()
    times, stop = [], time.monotonic() + seconds
    threads = [
        threading.Thread(target=loop, args=(client, f"patient/{caller}", batch, stop, body, times))
        for caller, client in clients.items()
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put((time.monotonic() - started, times))


def append(url, callers, batch, seconds, size):
    shares = [list(range(callers))[n::PROCESSES] for n in range(min(callers, PROCESSES))]
    start, answers = multiprocessing.Barrier(len(shares)), multiprocessing.Queue()
    arguments = (batch, seconds, b"b" * size, start, answers)
    processes = [multiprocessing.Process(target=share, args=(url, callers, *arguments)) for callers in shares]
    for process in processes:
        process.start()
    answered = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    times = [took for _, times in answered for took in times]
    return len(times) * batch / max(took for took, _ in answered), statistics.median(times)


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    for line in sys.stdin:
        callers, batch, seconds, size = line.split()
        print(*append(sys.argv[1], int(callers), int(batch), float(seconds), int(size)), flush=True)
