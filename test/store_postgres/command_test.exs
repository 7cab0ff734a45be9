defmodule EventSeal.Store.Postgres.CommandTest do
  # Every command over a database in the place of a folder. The names that commands run under are fixed.
  use ExUnit.Case, async: false

  import EventSeal.CommandLine
  alias EventSeal.{Postgres, PostgresServer, Proof, Signer}

  @moduletag :tmp_dir
  @moduletag timeout: 240_000

  test "import, verify, head, export, report: as over a folder", %{tmp_dir: dir} do
    url = PostgresServer.url(PostgresServer.store!(PostgresServer.shared()))
    path = &Path.join(dir, &1)

    events =
      for n <- 1..50,
          do: ~s({"flow":"patient/#{rem(n, 3)}","when":#{n},"where":null,"kind":"vital","body":"body #{n}"}\n)

    File.write!(path.("events.jsonl"), events)
    assert {0, said} = command(:import, ["--store", url, path.("events.jsonl")])
    assert said =~ "50 added"
    assert {0, said} = command(:verify, ["--store", url])
    assert said =~ "50 events"
    refute said =~ "writes"
    assert {0, _} = command(:head, ["--store", url, "--out", path.("heads")])
    assert {0, _} = command(:verify, ["--store", url, "--head", path.("heads")])
    assert {0, _} = command(:export, ["--store", url, "--out", path.("out")])
    files = Path.wildcard(path.("out/*.jsonl"))
    assert length(files) == 3
    assert {0, _} = command(:verify, ["--file" | files])
    assert {0, said} = command(:report, ["--store", url, "--out", path.("report.html")])
    refute said =~ "writes" or File.read!(path.("report.html")) =~ "writes"
  end

  test "archives of a folder come back as the same chain, byte for byte, and go on", %{tmp_dir: dir} do
    path = &Path.join(dir, &1)
    {:ok, key} = Signer.File.generate(path.("log.key"), "ward.example/log")
    checkpoints = [signer: {Signer.File, path.("log.key")}, every: :infinity]
    disk = {EventSeal.Store.Disk, dir: path.("disk")}
    start_supervised!({EventSeal, name: Ours, store: disk, pool_window: 0, checkpoints: checkpoints})
    item = fn flow, n -> {flow, %{when: n, kind: "vital", body: "b#{n}", where: {:geo, 1.5, -2.5}}} end
    {:ok, _} = EventSeal.append_many(Ours, for(n <- 1..20, flow <- ["a", "b"], do: item.(flow, n)))
    {:ok, _} = EventSeal.close(Ours, "a")
    {:ok, _} = EventSeal.seal(Ours, "b")
    {:ok, checkpoint} = EventSeal.checkpoint(Ours)
    stop_supervised!({EventSeal, Ours})

    opts = PostgresServer.store!(PostgresServer.shared())
    assert {0, _} = command(:export, ["--dir", path.("disk"), "--out", path.("archives"), "--format", "archive"])
    assert {0, _} = command(:import, ["--store", PostgresServer.url(opts) | Path.wildcard(path.("archives/*"))])

    assert {0, _} =
             command(:export, ["--store", PostgresServer.url(opts), "--out", path.("again"), "--format", "archive"])

    for file <- Path.wildcard(path.("archives/*")) do
      assert File.read!(file) == File.read!(Path.join(path.("again"), Path.basename(file)))
    end

    File.write!(path.("checkpoint"), checkpoint.note)

    assert {0, _} =
             command(:verify, ["--store", PostgresServer.url(opts), "--checkpoint", path.("checkpoint"), "--key", key])

    assert {0, _} =
             command(:prove, [
               "--store",
               PostgresServer.url(opts),
               "--flow",
               "b",
               "--n",
               "3",
               "--disclose",
               "--out",
               path.("proof")
             ])

    assert {:ok, %{event: %{body: "b3"}}} = Proof.verify(File.read!(path.("proof")), key: key)
    assert {0, _} = command(:checkpoint, ["--store", PostgresServer.url(opts), "--out", path.("last")])
    assert File.read!(path.("last")) == checkpoint.note

    store = {EventSeal.Store.Postgres, opts}
    start_supervised!({EventSeal, name: Theirs, store: store, pool_window: 0, checkpoints: checkpoints})
    {:ok, _} = EventSeal.append_many(Theirs, for(n <- 21..30, do: item.("b", n)))
    {:ok, _} = EventSeal.seal(Theirs, "b")
    {:ok, later} = EventSeal.checkpoint(Theirs)
    assert later.size > checkpoint.size
    assert {:ok, %{fault_count: 0}} = EventSeal.verify(Theirs, checkpoint: path.("checkpoint"), key: key)
  end

  test "setup makes the tables once, and prints how without doing it", %{tmp_dir: _dir} do
    server = PostgresServer.shared()
    schema = "setup_#{System.unique_integer([:positive])}"
    opts = PostgresServer.options(server, sslmode: "disable", schema: schema)

    url =
      String.replace(opts[:url], "//owner@", "//owner:#{URI.encode_www_form(server.password)}@")
      |> String.replace("+", "%20")

    assert {0, text} = command(:setup, ["--store", url, "--print"])
    assert text =~ "CREATE SCHEMA #{schema};"
    count = {"SELECT count(*) FROM pg_namespace WHERE nspname = $1", [text: schema]}
    client = PostgresServer.client!(server)
    assert {:ok, [%{rows: [[0]]}]} = Postgres.run(client, [count])
    assert {0, said} = command(:setup, ["--store", url])
    assert said =~ "version #{EventSeal.Store.Postgres.Migration.known()}"
    refute said =~ server.password
    assert {0, said} = command(:setup, ["--store", url])
    assert said =~ "already"
    assert {:ok, [%{rows: [[1]]}]} = Postgres.run(client, [count])
    # What was printed does the same.
    other = String.replace(text, schema, schema <> "b")
    assert :ok = Postgres.script(client, other)
    assert {:ok, [%{rows: [[version]]}]} = Postgres.run(client, [{"SELECT max(version) FROM #{schema}b.migration", []}])
    assert version == EventSeal.Store.Postgres.Migration.known()
  end

  test "what cannot be is said, without a password", %{tmp_dir: dir} do
    opts = PostgresServer.store!(PostgresServer.shared())
    url = PostgresServer.url(opts)

    for {name, args} <- [
          {:verify, ["--store", url, "--dir", dir]},
          {:verify, ["--store", dir]},
          {:doctor, ["--dir", opts[:url]]},
          {:setup, ["--store", dir]},
          {:verify, ["--store", "postgres://u:writes@127.0.0.1/x?sslmode=prefer"]},
          {:verify, ["--store", String.replace(url, "schema=ward", "schema=none")]}
        ] do
      assert {2, said} = command(name, args)
      refute said =~ "writes" or said =~ "** ("
    end
  end
end
