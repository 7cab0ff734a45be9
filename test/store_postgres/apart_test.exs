defmodule EventSeal.Store.Postgres.ApartTest do
  # The verification store in another schema, database or server than the events, or one of the two in a folder: what it lacks
  # comes over, and whoever changes one of them is named, with the side that is wrong.
  use ExUnit.Case, async: false

  import EventSeal.CommandLine
  alias EventSeal.{Apart, Instance, Kept, Postgres, PostgresServer, Signer, Store, Verdict}

  @moduletag :tmp_dir
  @moduletag :capture_log
  @moduletag timeout: 240_000
  @flow "patient/1"

  # A second server, for the test that asks for one.
  defp place(:schema, _context), do: {PostgresServer.shared(), postgres(PostgresServer.shared())}

  defp place(:database, _context) do
    server = PostgresServer.shared()
    name = "apart_#{System.unique_integer([:positive])}"
    PostgresServer.as_owner!(server, fn owner -> :ok = Postgres.script(owner, "CREATE DATABASE #{name}") end)
    {server, postgres(server, database: name)}
  end

  defp place(:server, _context) do
    server = PostgresServer.start!()
    on_exit(fn -> PostgresServer.stop!(server) end)
    {server, postgres(server)}
  end

  defp place(:folder, context),
    do: {nil, {Store.Disk, dir: Path.join(context.tmp_dir, "folder")}}

  defp postgres(server, opts \\ []), do: {Store.Postgres, PostgresServer.store!(server, [sweep: :infinity] ++ opts)}

  defp start!(context, events, apart) do
    key = Path.join(context.tmp_dir, "log.key")
    unless File.exists?(key), do: {:ok, _} = Signer.File.generate(key, "clinic.example/log")
    name = :"twice_#{System.unique_integer([:positive])}"
    checkpoints = [signer: {Signer.File, key}, every: :infinity]
    tree = [name: name, store: events, verification: apart, pool_window: 0, checkpoints: checkpoints]
    start_supervised!({EventSeal, tree ++ [block: [max_events: 4]]}, id: name)
    name
  end

  defp fill(name, numbers) do
    {:ok, _} = EventSeal.append_many(name, for(n <- numbers, do: {@flow, %{when: n, kind: "vital", body: "body #{n}"}}))
    {:ok, _} = EventSeal.seal(name, @flow)
    assert Apart.sync(Instance.fetch!(name)) == :ok
  end

  defp sides(name) do
    {:ok, verdict} = EventSeal.verify(name)
    for %{side: side} = fault when side != nil <- verdict.faults, do: {fault.flow, fault.position, fault.class, side}
  end

  for {events, apart} <- [
        {:schema, :schema},
        {:schema, :database},
        {:schema, :server},
        {:schema, :folder},
        {:folder, :schema}
      ] do
    @tag events: events, apart: apart
    test "events in a #{events}, kept in a #{apart}: all comes over, goes on, and each side's changes are named",
         %{events: events, apart: apart} = context do
      {events_server, events} = place(events, context)
      {apart_server, apart} = place(apart, context)
      name = start!(context, events, apart)
      fill(name, 1..11)
      {:ok, _} = EventSeal.checkpoint(name)
      stop_supervised!(name)
      name = start!(context, events, apart)
      fill(name, 12..15)
      {:ok, _} = EventSeal.checkpoint(name)
      assert {:ok, %Verdict{kept: 3, behind: 0, fault_count: 0, faults: []}} = EventSeal.verify(name)

      assert same?(name)
      if events_server, do: attack(name, :events, events_server, events)
      if apart_server, do: attack(name, :verification, apart_server, apart)
    end
  end

  # What is kept are the blocks' parts, byte for byte.
  defp same?(name) do
    instance = Instance.fetch!(name)

    parts = fn store ->
      {:ok, pieces} = Store.blocks(store, @flow, {1, :infinity})
      for piece <- pieces, do: elem(Store.read(piece), 1)
    end

    cut = for block <- parts.(instance.store), do: elem(Kept.cut({:binary, block}), 1)
    length(cut) == 3 and parts.(instance.apart) == cut
  end

  # Each change is undone by its second half.
  defp attack(name, side, server, {_postgres, opts}) do
    flip = fn bytes, at -> "set_byte(#{bytes}, #{at}, get_byte(#{bytes}, #{at}) # 1)" end

    id =
      if side == :events,
        do: "UPDATE event SET id = #{flip.("id", 3)} WHERE n = 6",
        # Four event hashes, and the second of four ids.
        else: "UPDATE block SET digests = #{flip.("digests", 128 + 32 + 3)} WHERE height = 1"

    leaf = "UPDATE leaf SET data = #{flip.("data", "length(data) - 1")} WHERE index = 1"
    seam = "UPDATE block SET front = #{flip.("front", "length(front) - 250")} WHERE height = 1"

    gone = "UPDATE block SET flow = 1000000 - flow WHERE height = 2"

    for {sql, {flow, position, class}} <- [
          {id, {@flow, 6, :id}},
          {leaf, {"log", 1, :log}},
          {seam, {@flow, 5, :seam}},
          {gone, {@flow, 9, :missing}}
        ] do
      PostgresServer.tamper!(server, opts, sql)
      assert {flow, position, class, side} in sides(name)
      assert Enum.all?(sides(name), &(elem(&1, 3) == side))
      assert Enum.any?(rows(name), &String.starts_with?(&1, PostgresServer.schema(opts) <> "."))
      PostgresServer.tamper!(server, opts, sql)
      assert sides(name) == []
    end
  end

  defp rows(name) do
    {:ok, verdict} = EventSeal.verify(name)
    for %{row: row} when row != nil <- verdict.faults, do: row
  end

  test "rows that belong to nothing, and what lets them be changed, are named on the side where they lie", context do
    {server, events} = place(:schema, context)
    {_, {_, opts} = apart} = place(:database, context)
    name = start!(context, events, apart)
    fill(name, 1..7)
    assert sides(name) == []
    schema = PostgresServer.schema(opts)
    frame = "decode(repeat('00', 128), 'hex')"
    extra = "INSERT INTO event (flow, n, frame, hash, id) SELECT number, 2, #{frame}, '', '' FROM flow"
    PostgresServer.tamper!(server, opts, extra)

    PostgresServer.as_owner!(server, [database: String.trim_leading(URI.parse(opts[:url]).path, "/")], fn owner ->
      :ok = Postgres.script(owner, "GRANT UPDATE ON #{schema}.block TO PUBLIC")
    end)

    assert sides(name) == [{@flow, 2, :row, :verification}, {"tables", 0, :tables, :verification}]
    assert ["#{schema}.event (flow 1, n 2)", "#{schema}.block: UPDATE is granted to PUBLIC"] == rows(name)
  end

  @inserts %{
    "flow" => "(1000, 'patient/1000', 0, '\\x00')",
    "block" => "(1000, '\\x00', 1, 1, 1)",
    "leaf" => "(1000, '\\x00')",
    "checkpoint" => "(1000, '\\x00')",
    "lease" => "(1, 1000, '\\x00')"
  }

  test "who may write events can neither write nor read what is kept of them, nor the other way round" do
    server = PostgresServer.shared()
    {_, {_, events}} = place(:schema, %{})

    for where <- [:schema, :database] do
      {_, {_, apart}} = place(where, %{})

      for {who, into} <- [{events, apart}, {apart, events}] do
        %{userinfo: user} = URI.parse(who[:url])
        %{path: "/" <> database} = URI.parse(into[:url])
        opts = [user: user, password: "writes", database: database]
        client = PostgresServer.client!(server, [sslmode: "disable"], opts)

        for {table, values} <- @inserts, name = "#{PostgresServer.schema(into)}.#{table}" do
          assert {:error, %{code: "42501"}} = Postgres.run(client, [{"INSERT INTO #{name} VALUES #{values}", []}])
          assert {:error, %{code: "42501"}} = Postgres.run(client, [{"SELECT * FROM #{name}", []}])
        end
      end
    end
  end

  test "a flow of more bytes than should lie in memory is kept and compared block by block", context do
    {_, events} = place(:schema, context)
    {_, apart} = place(:schema, context)
    name = start!(context, events, apart)
    body = :binary.copy("b", 2_000_000)
    {:ok, _} = EventSeal.append_many(name, for(n <- 1..23, do: {@flow, %{when: n, kind: "scan", body: body}}))
    {:ok, _} = EventSeal.seal(name, @flow)
    instance = Instance.fetch!(name)
    assert Apart.sync(instance) == :ok
    {:ok, pieces} = Store.blocks(instance.store, @flow, {1, :infinity})
    assert Enum.all?(pieces, &match?({:read, _length, _fun}, &1.at))
    assert {:ok, %Verdict{kept: 5, behind: 0, fault_count: 0}} = EventSeal.verify(name)
  end

  describe "commands" do
    setup context do
      {server, events} = place(:schema, context)
      {_, apart} = place(:database, context)
      name = start!(context, events, apart)
      fill(name, 1..11)
      {:ok, checkpoint} = EventSeal.checkpoint(name)
      stop_supervised!(name)
      {:ok, server: server, events: elem(events, 1), apart: elem(apart, 1), checkpoint: checkpoint}
    end

    test "verify compares two databases, and names the side", %{server: server, events: events, apart: apart} do
      both = ["--store", PostgresServer.url(events), "--verification", PostgresServer.url(apart)]
      assert {0, said} = command(:verify, both)
      assert said =~ "2 blocks compared with the verification store"

      PostgresServer.tamper!(
        server,
        apart,
        "UPDATE block SET digests = set_byte(digests, 200, get_byte(digests, 200) # 1) WHERE height = 1"
      )

      assert {1, said} = command(:verify, both)
      assert said =~ "the verification store is wrong"
      refute said =~ "writes"

      assert {2, said} =
               command(:verify, [
                 "--store",
                 PostgresServer.url(events),
                 "--verification",
                 PostgresServer.url(apart) <> "0"
               ])

      refute said =~ "writes"
    end

    test "one that is lost is made anew, on record",
         %{tmp_dir: tmp, events: events, checkpoint: checkpoint} = context do
      {_, {_, new}} = place(:schema, context)
      args = ["--store", PostgresServer.url(events), "--verification", PostgresServer.url(new)]
      outside = Path.join(tmp, "outside")
      File.write!(outside, checkpoint.note)
      assert {2, said} = command(:rebuild, args)
      assert said =~ "--out DIR"
      args = args ++ ["--out", Path.join(tmp, "record"), "--checkpoint", outside, "--key", checkpoint.key]
      assert {0, said} = command(:rebuild, args)
      assert said =~ "2 blocks of 1 flow" and said =~ "record/report.txt"
      refute said =~ "writes"
      assert File.read!(Path.join(tmp, "record/report.txt")) =~ "decision "

      assert {0, _} =
               command(:verify, ["--store", PostgresServer.url(events), "--verification", PostgresServer.url(new)])

      # Nothing is copied into one that holds anything.
      again = [
        "--store",
        PostgresServer.url(events),
        "--verification",
        PostgresServer.url(new),
        "--out",
        Path.join(tmp, "again")
      ]

      assert {2, said} = command(:rebuild, again)
      assert said =~ "must be an empty store"
    end
  end

  test "the doctor takes digests of a folder's blocks from a database", context do
    {_, {_, dir: dir} = events} = place(:folder, context)
    {_, {_, kept} = apart} = place(:database, context)
    name = start!(context, events, apart)
    fill(name, 1..11)
    {:ok, _} = EventSeal.checkpoint(name)
    stop_supervised!(name)
    [path] = Path.wildcard(dir <> "/segments/*.segment")
    {:ok, part} = last_part(dir)
    ids = binary_part(part, byte_size(part) - 128, 40)
    [{at, _}] = :binary.matches(File.read!(path), ids)
    {:ok, file} = :file.open(path, [:raw, :binary, :read, :write])
    :ok = :file.pwrite(file, at, <<0::320>>)
    :ok = :file.close(file)
    out = Path.join(context.tmp_dir, "out")
    assert {1, said} = command(:doctor, ["--dir", dir, "--verification", PostgresServer.url(kept), "--out", out])
    assert said =~ "1 of these blocks hold with the digests that the verification store has of them"
    assert said =~ "The new store was verified: no fault."
  end

  defp last_part(dir) do
    EventSeal.BitRot.open(dir, :read, fn store ->
      {:ok, pieces} = Store.blocks(store, @flow, {1, :infinity})
      Kept.cut(List.last(pieces).at)
    end)
  end
end
