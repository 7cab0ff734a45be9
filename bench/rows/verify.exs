defmodule Bench.Rows.Verify do
  @moduledoc false
  # `EventSeal.verify` over `Store.Disk`, whose blocks lie in the page cache: one closed flow, bodies of several lengths, both
  # suites, all cores and one. With bodies of 300 bytes beside the limit (the same hashing, over bytes that lie ready), sha2
  # one input at a time, plain Elixir, PostgreSQL's window query and `git fsck`.

  alias Bench.{Core, Git, Peer, Peers, Plain, Postgres, Samples, Store}
  alias EventSeal.Verdict

  @bodies [{"100", 100}, {"300", 300}, {"1k", 1024}, {"100k", 102_400}]
  # The longest bodies are so much that fewer events do: bytes for each event that is asked for.
  @most 2_000
  # Plain Elixir is given a tenth of the events: it takes its time.
  @tenth 10

  @spec groups(map) :: [{[String.t()], (() -> [Samples.result()])}]
  def groups(options) do
    for suite <- [:blake3, :sha256], {name, bytes} <- @bodies do
      row = "verify_#{suite}_#{name}"
      beside = if bytes == 300, do: limits(suite), else: []
      {[row, row <> "_one_core" | beside], fn -> compare(row, suite, bytes, options) end}
    end
  end

  defp limits(:blake3), do: ["limit_blake3_300"]
  defp limits(:sha256), do: ["limit_sha256_300", "sha2_one_by_one_300"]

  defp compare(row, suite, bytes, options) do
    events = min(options.events, div(options.events * @most, bytes))

    Store.in_folder(fn dir ->
      Store.open(Path.join(dir, "store"), [suite: suite], fn name ->
        :ok = Store.one_flow(name, events, bytes)

        Peers.run(options, if(bytes == 300, do: peers(suite, dir, events), else: []), fn peers ->
          Samples.take(ours(row, name, events) ++ others(row, suite, peers, events), options.samples)
        end)
      end)
    end)
  end

  defp ours(row, name, events) do
    [
      {[{row, "event_seal"}], fn -> verify(name, events, System.schedulers_online()) end},
      {[{row <> "_one_core", "event_seal"}], fn -> verify(name, events, 1) end}
    ]
  end

  @doc "Verifies the whole store; its events a second. A fault, or an event that was not looked at, is no sample."
  @spec verify(atom, pos_integer, pos_integer) :: float
  def verify(name, events, threads) do
    Samples.rate(events, fn ->
      {:ok, verdict} = EventSeal.verify(name, threads: threads)
      true = Verdict.ok?(verdict) and verdict.fixed == events and verdict.bodies_verified == events
    end)
  end

  defp peers(:blake3, _dir, events), do: [{:limit, Core, fn -> limit("lanes", :blake3, events) end}]

  defp peers(:sha256, dir, events) do
    [
      {:limit, Core, fn -> limit("lanes", :sha256, events) end},
      {:one_by_one, Core, fn -> limit("one_by_one", :sha256, events) end},
      {:plain, Plain, fn -> div(events, @tenth) end},
      {:postgres, Postgres, fn -> dir |> Postgres.start() |> Postgres.fill(events, 300) end},
      {:git, Git, fn -> Git.start(dir, events, 300) end}
    ]
  end

  defp limit(how, suite, events), do: Core.start("limit", [how, to_string(suite), "300", to_string(events)])

  defp others(row, suite, peers, events) do
    cores = System.schedulers_online()

    Enum.concat([
      Peers.contender(peers, :limit, [{"limit_#{suite}_300", "limit"}], &Peer.ask/1),
      Peers.contender(peers, :one_by_one, [{"sha2_one_by_one_300", "sha2"}], &Peer.ask/1),
      Peers.contender(peers, :plain, [{row, "elixir_crypto"}], &plain(&1, cores)),
      Peers.contender(peers, :plain, [{row <> "_one_core", "elixir_crypto"}], &plain(&1, 1)),
      Peers.contender(peers, :postgres, [{row, "postgresql"}], &window(&1, events)),
      Peers.contender(peers, :git, [{row, "git_fsck"}], &Samples.rate(events, fn -> Git.fsck(&1) end))
    ])
  end

  defp plain(events, processes), do: Samples.rate(events, fn -> Plain.verify(events, processes) end)
  defp window(postgres, events), do: Samples.rate(events, fn -> ^events = Postgres.verify(postgres) end)
end
