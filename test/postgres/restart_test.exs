defmodule EventSeal.Postgres.RestartTest do
  # A server that ends, is killed, or stands still under load.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias EventSeal.{Postgres, PostgresServer}
  alias EventSeal.Postgres.Error

  @moduletag timeout: 240_000

  setup do
    server = PostgresServer.start!()
    on_exit(fn -> PostgresServer.stop!(server) end)
    {:ok, server: server}
  end

  test "restarted again and again under load: nothing acknowledged is lost, nothing refused is done", %{server: server} do
    capture_log(fn ->
      client = PostgresServer.client!(server, [sslmode: "disable"], pool: 4, timeout: 20_000, backoff: {10, 200})
      :ok = Postgres.script(client, "CREATE TABLE load (n int8 PRIMARY KEY)")
      load = Task.async(fn -> load(client, 8) end)

      server =
        Enum.reduce(["INT", "QUIT", "KILL", "INT"], server, fn signal, server ->
          Process.sleep(400)
          server = PostgresServer.halt!(server, signal)
          PostgresServer.begin(server)
        end)

      Process.sleep(400)
      outcomes = stop(load)
      {:ok, [%{rows: rows}]} = Postgres.run(client, [{"SELECT n FROM load", []}])
      check(outcomes, MapSet.new(rows, &hd/1))
      assert Enum.any?(outcomes, fn {_n, outcome} -> match?({:error, _}, outcome) end)
      PostgresServer.stop!(server)
    end)
  end

  test "paused under load: callers are told in their time, and it goes on where it can", %{server: server} do
    capture_log(fn ->
      opts = [pool: 3, timeout: 500, cancel_wait: 300, connect_timeout: 500, backoff: {10, 100}]
      client = PostgresServer.client!(server, [sslmode: "disable"], opts)
      :ok = Postgres.script(client, "CREATE TABLE load (n int8 PRIMARY KEY)")
      load = Task.async(fn -> load(client, 6) end)
      Process.sleep(300)
      PostgresServer.signal_all(server, "STOP")
      assert {:error, %Error{code: code}} = Postgres.run(client, [{"SELECT 1", []}])
      assert code in ["08001", "08007"]
      Process.sleep(1_500)
      PostgresServer.signal_all(server, "CONT")
      PostgresServer.wait(fn -> match?({:ok, _}, Postgres.run(client, [{"SELECT 1", []}])) end, 200)
      Process.sleep(300)
      outcomes = stop(load)
      # What a paused session still had in hand it may do, or not, after that.
      sessions = {"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()", []}
      PostgresServer.wait(fn -> match?({:ok, [%{rows: [[0]]}]}, Postgres.run(client, [sessions])) end, 200)
      {:ok, [%{rows: rows}]} = Postgres.run(client, [{"SELECT n FROM load", []}])
      check(outcomes, MapSet.new(rows, &hd/1))
      assert Enum.any?(outcomes, fn {_n, outcome} -> match?({:error, %Error{code: "08007"}}, outcome) end)
    end)
  end

  defp check(outcomes, stored) do
    for {n, outcome} <- outcomes do
      case outcome do
        {:ok, _} -> assert n in stored
        {:error, error} -> if Error.undone?(error), do: refute(n in stored), else: assert(error.code == "08007")
      end
    end

    assert Enum.count(outcomes, &match?({_, {:ok, _}}, &1)) > 5
  end

  defp load(client, callers) do
    parent = self()
    workers = for caller <- 1..callers, do: Task.async(fn -> work(client, caller, 0, parent, []) end)
    receive(do: ({:stop, from} -> send(from, {:stopping, self()})))
    for worker <- workers, do: send(worker.pid, :stop)
    workers |> Task.await_many(60_000) |> Enum.concat()
  end

  defp work(client, caller, count, parent, outcomes) do
    receive do
      :stop -> outcomes
    after
      0 ->
        n = caller * 10_000_000 + count
        outcome = Postgres.run(client, [{"INSERT INTO load VALUES ($1)", [int8: n]}])
        if match?({:error, _}, outcome), do: Process.sleep(5)
        work(client, caller, count + 1, parent, [{n, outcome} | outcomes])
    end
  end

  defp stop(load) do
    send(load.pid, {:stop, self()})
    Task.await(load, 60_000)
  end
end
