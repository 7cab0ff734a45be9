defmodule EventSeal.Postgres.CutTest do
  # A connection that is cut after each byte that goes over it, in both directions, from the first of the greeting to the
  # last of the answer. Each call ends, says rightly what is known, and the next one gets through.
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  alias EventSeal.{Postgres, PostgresServer, Wire}
  alias EventSeal.Postgres.Error

  @moduletag timeout: 300_000

  test "cut after every byte, nothing acknowledged is lost and nothing refused is done" do
    server = PostgresServer.shared()
    direct = PostgresServer.client!(server)
    :ok = Postgres.script(direct, "CREATE TABLE cut (n int8 PRIMARY KEY, t text)")

    capture_log(fn ->
      outcomes =
        for(way <- [:up, :down], do: Stream.map(0..2_000, &{way, &1}))
        |> Enum.flat_map(&until_whole(&1, server))
        |> Map.new()

      {:ok, [%{rows: rows}]} = Postgres.run(direct, [{"SELECT n FROM cut", []}])
      stored = MapSet.new(rows, fn [n] -> n end)

      for {n, outcome} <- outcomes do
        case outcome do
          {:ok, _} -> assert n in stored
          {:error, error} -> if Error.undone?(error), do: refute(n in stored), else: assert(error.code == "08007")
        end
      end

      unknown = for {n, {:error, %Error{code: "08007"}}} <- outcomes, do: n
      # Cut at the very end, it was done though nobody could know; cut before, it was not.
      assert Enum.any?(unknown, &(&1 in stored)) and Enum.any?(unknown, &(&1 not in stored))
    end)
  end

  # Byte after byte, some at a time, until one cut lies behind all that is said.
  defp until_whole(cuts, server) do
    cuts
    |> Stream.chunk_every(8)
    |> Stream.map(&Task.await_many(for(cut <- &1, do: Task.async(fn -> cut(cut, server) end)), 60_000))
    |> Enum.take_while(fn done -> Enum.any?(done, fn {_n, _outcome, cut?} -> cut? end) end)
    |> Enum.concat()
    |> Enum.map(fn {n, outcome, _cut?} -> {n, outcome} end)
    |> tap(&assert length(&1) > 300)
  end

  defp cut({way, bytes} = cut, server) do
    n = if way == :up, do: bytes, else: -1 - bytes
    name = :"cut_#{way}_#{bytes}"
    {port, cut?} = Wire.proxy!(server.port, cut)

    opts =
      PostgresServer.options(server, [sslmode: "disable"], port: port, pool: 1, backoff: {1, 5}, connect_timeout: 2_000)

    {:ok, client} = Supervisor.start_link([{Postgres, {name, opts}}], strategy: :one_for_one)
    # Whatever is cut, the greeting is made again: so only what is asked can be in doubt.
    outcome = Postgres.run(name, [{"INSERT INTO cut VALUES ($1, $2)", [int8: n, text: "x"]}], timeout: 5_000)
    # One more may be cut off: the last answer's last bytes may come with the next one's.
    assert Enum.any?(1..2, fn _ -> match?({:ok, [%{rows: [[1]]}]}, Postgres.run(name, [{"SELECT 1", []}])) end)
    Supervisor.stop(client)
    {n, outcome, cut?.()}
  end
end
