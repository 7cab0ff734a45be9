defmodule EventSeal.Command do
  @moduledoc """
  The commands behind `mix event_seal.import`, `mix event_seal.export`, `mix event_seal.verify`,
  `mix event_seal.head`, `mix event_seal.keygen`, `mix event_seal.checkpoint`, `mix event_seal.stamp`, `mix event_seal.prove`,
  `mix event_seal.packet`, `mix event_seal.report`, `mix event_seal.doctor`, `mix event_seal.rebuild`,
  `mix event_seal.setup` and `mix event_seal.migrate`, for where there is
  no Mix: in a release, through `eval`.

      bin/clinic eval 'System.halt(EventSeal.Command.verify(["--dir", "data"]))'

  Each takes the task's arguments, prints its report and returns the exit status: 0 all went well (all verified), 1 faults
  or bad lines were found, 2 it could not run. Progress is shown on a terminal only.

  Where a folder is named by `--dir DIR [--archive DIR]`, a database can be by `--store postgres://USER@HOST/DATABASE`
  (`EventSeal.Store.Postgres`); its password is best given by `PGPASSWORD`. The doctor alone takes only folders.
  """

  alias EventSeal.{
    Archive,
    Auditor,
    Checkpoint,
    Decision,
    Doctor,
    Error,
    Export,
    Heads,
    Import,
    Interchange,
    Log,
    Migrate
  }

  alias EventSeal.{Page, Proof, Rebuild, Restore, Signer, Store, Verdict, Verifier}
  alias EventSeal.Command.{Asked, Examination, Opened, Place, Report, Signed}
  alias EventSeal.Stamp.Kept

  @type status :: 0 | 1 | 2
  @suites %{"sha256" => :sha256, "blake3" => :blake3}

  @doc """
  `--dir DIR [--archive DIR] [--suite sha256|blake3] [--skip-bad] FILE…`: see `EventSeal.Import`; and where the files are
  archives or interchange files, `EventSeal.Restore`.
  """
  @spec import([String.t()]) :: status
  def import(args) do
    run(
      "import --dir DIR [--archive DIR] [--suite sha256|blake3] [--skip-bad] FILE…",
      args,
      [dir: :string, archive: :string, suite: :string, skip_bad: :boolean],
      fn
        %{dir: _} = opts, [_ | _] = files ->
          with {:ok, suite} <- suite(Map.get(opts, :suite, "sha256")), {:ok, kinds} <- kinds(files) do
            if kinds == [],
              do: import(Place.of(opts), files, suite, Map.get(opts, :skip_bad, false)),
              else: restore(Place.of(opts), kinds)
          end

        _opts, _files ->
          :usage
      end
    )
  end

  @doc "`--dir DIR [--archive DIR] --out OUT [--format interchange|archive]`: see `EventSeal.Export`."
  @spec export([String.t()]) :: status
  def export(args) do
    run(
      "export --dir DIR [--archive DIR] --out OUT [--format interchange|archive]",
      args,
      [dir: :string, archive: :string, out: :string, format: :string],
      fn
        %{dir: _, out: out} = opts, [] ->
          with {:ok, format} <- format(Map.get(opts, :format, "interchange")), do: export(Place.of(opts), out, format)

        _opts, _files ->
          :usage
      end
    )
  end

  @doc "`--dir DIR [--archive DIR] --out FILE`: see `EventSeal.Heads`."
  @spec head([String.t()]) :: status
  def head(args) do
    run("head --dir DIR [--archive DIR] --out FILE", args, [dir: :string, archive: :string, out: :string], fn
      %{dir: _, out: out} = opts, [] -> head(Place.of(opts), out)
      _opts, _files -> :usage
    end)
  end

  @doc """
  `--dir DIR [--archive DIR] [--verification DIR|URL] [--head FILE] [--checkpoint FILE --key KEY…] [--since FILE --key KEY…]
  [--anchors PEM]` or `--file FILE… [--key KEY…]`, either with `--max-rate RATE`: see `EventSeal.Verifier`, `EventSeal.Apart`,
  `EventSeal.Heads`, `EventSeal.Checkpoint` and `EventSeal.Interchange`. A rate is a number of
  events a second, or of bytes with a unit: `20000`, `50MB` (B, kB, MB).
  """
  @spec verify([String.t()]) :: status
  def verify(args) do
    usage =
      "verify --dir DIR [--archive DIR] [--verification DIR|URL] [--head FILE] [--checkpoint FILE | --since FILE, --key KEY…] " <>
        "[--anchors PEM], or verify --file FILE… [--key KEY…]; both [--max-rate 20000|50MB]"

    switches =
      [dir: :string, archive: :string, verification: :string, head: :string, checkpoint: :string, since: :string] ++
        [key: :keep, anchors: :string] ++
        [file: :keep, max_rate: :string]

    run(usage, args, switches, fn opts, files ->
      with {:ok, rate} <- Asked.rate(opts[:max_rate]), do: verify(Map.delete(opts, :max_rate), files, rate)
    end)
  end

  defp verify(%{dir: _, file: [], key: keys} = opts, [], rate) do
    known = Map.take(opts, [:checkpoint, :since])
    named = Keyword.new(Map.take(opts, [:head, :checkpoint, :anchors] ++ if(keys == [], do: [], else: [:key])))

    if map_size(known) != min(length(keys), 1) do
      :usage
    else
      with {:ok, since} <- since(opts), do: verify_dir(Place.of(opts), opts[:verification], since ++ named ++ rate)
    end
  end

  defp verify(%{file: [_ | _] = files, key: keys} = opts, more, rate) when map_size(opts) == 2,
    do: verify_files(files ++ more, keys, rate)

  defp verify(_opts, _files, _rate), do: :usage

  defp since(%{since: path}), do: with({:ok, note} <- read(path), do: {:ok, since: note})
  defp since(_opts), do: {:ok, []}

  @doc "`--name NAME --out FILE [--witness | --receipts]`: see `EventSeal.Signer.File`."
  @spec keygen([String.t()]) :: status
  def keygen(args) do
    switches = [name: :string, out: :string, witness: :boolean, receipts: :boolean]

    run("keygen --name NAME --out FILE [--witness | --receipts]", args, switches, fn
      %{witness: true, receipts: true}, _files ->
        :usage

      %{name: name, out: out} = opts, [] ->
        purpose = Enum.find([:witness, :receipts], :log, &opts[&1])

        with {:ok, key} <- Signer.File.generate(out, name, purpose) do
          Report.key(key, out)
          0
        end

      _opts, _files ->
        :usage
    end)
  end

  @doc "`--dir DIR [--archive DIR] --out FILE`: writes the last checkpoint that was signed; see `EventSeal.Checkpoint`."
  @spec checkpoint([String.t()]) :: status
  def checkpoint(args) do
    run("checkpoint --dir DIR [--archive DIR] --out FILE", args, [dir: :string, archive: :string, out: :string], fn
      %{dir: _, out: out} = opts, [] ->
        Opened.with_reader(Place.of(opts), fn store ->
          with {:ok, checkpoint} <- signed(store), :ok <- write(out, checkpoint.note) do
            Report.checkpoint(checkpoint, out)
            0
          end
        end)

      _opts, _files ->
        :usage
    end)
  end

  @doc """
  `--dir DIR [--archive DIR] [--size N] [--policy OID] --out FILE` writes what a time-stamp authority is to be asked,
  `--dir DIR [--archive DIR] --request FILE --response FILE --anchors PEM` keeps its answer: see `EventSeal.Stamp`.
  """
  @spec stamp([String.t()]) :: status
  def stamp(args) do
    run(
      "stamp --dir DIR [--archive DIR] [--size N] [--policy OID] --out FILE, " <>
        "or stamp --dir DIR [--archive DIR] --request FILE --response FILE --anchors PEM",
      args,
      [dir: :string, archive: :string, size: :integer, policy: :string, out: :string] ++
        [request: :string, response: :string, anchors: :string],
      fn
        %{dir: _, request: request, response: response, anchors: anchors} = opts, []
        when not (is_map_key(opts, :out) or is_map_key(opts, :size) or is_map_key(opts, :policy)) ->
          keep_stamp(Place.of(opts), request, response, anchors)

        %{dir: _, out: out} = opts, [] when not (is_map_key(opts, :request) or is_map_key(opts, :anchors)) ->
          ask_stamp(Place.of(opts), Keyword.new(Map.take(opts, [:size, :policy])), out)

        _opts, _files ->
          :usage
      end
    )
  end

  @doc "`--dir DIR [--archive DIR] --flow FLOW --n N [--disclose] --out FILE`: see `EventSeal.prove/4`."
  @spec prove([String.t()]) :: status
  def prove(args) do
    run(
      "prove --dir DIR [--archive DIR] --flow FLOW --n N [--disclose] --out FILE",
      args,
      [dir: :string, archive: :string, flow: :string, n: :integer, disclose: :boolean, out: :string],
      fn
        %{dir: _, flow: flow, n: n, out: out} = opts, [] ->
          prove(Place.of(opts), flow, n, opts[:disclose] || false, out)

        _opts, _files ->
          :usage
      end
    )
  end

  @doc """
  `--dir DIR [--archive DIR] --flow FLOW [--range A-B] [--since TIME] [--until TIME] [--disclose | --show N…] --out FILE`: see
  `EventSeal.packet/3`. A time is as in ISO 8601, with its offset.
  """
  @spec packet([String.t()]) :: status
  def packet(args) do
    run(
      "packet --dir DIR [--archive DIR] --flow FLOW [--range A-B] [--since TIME] [--until TIME] " <>
        "[--disclose | --show N…] --out FILE",
      args,
      [dir: :string, archive: :string, flow: :string, range: :string, since: :string, until: :string] ++
        [disclose: :boolean, show: [:integer, :keep], out: :string],
      fn
        %{dir: _, flow: flow, out: out} = opts, [] ->
          with {:ok, asked} <- Asked.packet(opts), do: packet(Place.of(opts), flow, asked, out)

        _opts, _files ->
          :usage
      end
    )
  end

  @doc "`--dir DIR [--archive DIR] [--flow FLOW [--bodies]] [--audit FILE] [--anchors PEM] --out FILE`: see `EventSeal.Page`."
  @spec report([String.t()]) :: status
  def report(args) do
    run(
      "report --dir DIR [--archive DIR] [--flow FLOW [--bodies]] [--audit FILE] [--anchors PEM] --out FILE",
      args,
      [dir: :string, archive: :string, flow: :string, bodies: :boolean, audit: :string, anchors: :string, out: :string],
      fn
        %{bodies: _} = opts, [] when not is_map_key(opts, :flow) -> :usage
        %{dir: _, out: _} = opts, [] -> page(Place.of(opts), opts)
        _opts, _files -> :usage
      end
    )
  end

  @doc "`--dir DIR [--archive DIR] [--verification DIR|URL] [--out NEW]`: see `EventSeal.Doctor`."
  @spec doctor([String.t()]) :: status
  def doctor(args) do
    run(
      "doctor --dir DIR [--archive DIR] [--verification DIR|URL] [--out NEW]",
      args,
      [dir: :string, archive: :string, verification: :string, out: :string],
      fn
        %{verification: kept} = opts, [] when is_map_key(opts, :dir) ->
          Opened.with_apart(kept, &doctor(Place.of(opts), opts[:out], &1))

        %{dir: _} = opts, [] ->
          doctor(Place.of(opts), opts[:out], nil)

        _opts, _files ->
          :usage
      end
    )
  end

  @doc """
  `--dir DIR [--archive DIR] --verification NEW|URL [--out DIR] [--checkpoint FILE --key KEY…]`: see `EventSeal.Rebuild`. What
  its leaves say is kept in `NEW/rebuild`, or in the folder `--out`; where the new store is a database that is needed.
  """
  @spec rebuild([String.t()]) :: status
  def rebuild(args) do
    run(
      "rebuild --dir DIR [--archive DIR] --verification (NEW | postgres://… --out DIR) [--checkpoint FILE --key KEY…]",
      args,
      [dir: :string, archive: :string, verification: :string, out: :string, checkpoint: :string, key: :keep],
      fn
        %{dir: _, verification: new, key: keys} = opts, [] when is_map_key(opts, :checkpoint) == (keys != []) ->
          rebuild(
            Place.of(opts),
            Place.at(new),
            opts[:out],
            for({name, value} when value != [] <- opts, name in [:checkpoint, :key], do: {name, value})
          )

        _opts, _files ->
          :usage
      end
    )
  end

  @doc "`--from DIR|URL --to DIR|URL`: moves a store to another; see `EventSeal.Migrate`."
  @spec migrate([String.t()]) :: status
  def migrate(args) do
    run("migrate --from DIR|URL --to DIR|URL", args, [from: :string, to: :string], fn
      %{from: from, to: to}, [] when from != to -> migrate(Place.at(from), Place.at(to))
      _opts, _files -> :usage
    end)
  end

  defp migrate(from, to) do
    Opened.with_store(from, :read, fn old ->
      Opened.with_store(to, :write, fn new ->
        with {:ok, report} <- Migrate.run(old, new, progress: Report.progress()) do
          Report.migrate(report, to[:dir])
          verdict({:ok, report.verdict}, to[:dir])
        end
      end)
    end)
  end

  @doc """
  `--store URL [--print | --check]`: makes a store's tables in PostgreSQL, or prints how, or says whether they are as they were
  made; see `EventSeal.Store.Postgres`.
  """
  @spec setup([String.t()]) :: status
  def setup(args) do
    run("setup --store postgres://… [--print | --check]", args, [dir: :string, print: :boolean, check: :boolean], fn
      %{print: true, check: true}, _files -> :usage
      %{dir: _, password: _} = opts, [] -> setup(Place.of(opts), opts)
      _opts, _files -> :usage
    end)
  end

  defp setup(place, asked) do
    with {:ok, {_postgres, opts}} <- Place.adapter(place) do
      cond do
        asked[:print] -> Report.sql(Store.Postgres.sql(opts))
        asked[:check] -> check(opts)
        true -> set_up(opts)
      end
    end
  end

  defp check(opts) do
    with {:ok, faults} <- Store.Postgres.check(opts) do
      Report.check(faults, opts[:url])
      if faults == [], do: 0, else: 1
    end
  end

  defp set_up(opts) do
    with {:ok, versions} <- Store.Postgres.setup(opts) do
      Report.setup(versions, opts[:url])
      0
    end
  end

  defp run(usage, args, switches, fun) do
    with {:ok, opts, rest} <- parse(args, Place.switches(switches)),
         {:ok, opts} <- Place.named(opts),
         {:ok, _started} <- Application.ensure_all_started(:event_seal),
         status when is_integer(status) <- fun.(opts, rest) do
      status
    else
      :usage -> could_not("usage: event_seal." <> Place.usage(usage))
      {:error, error} -> could_not(Report.error(error))
    end
  end

  defp parse(args, switches) do
    case OptionParser.parse(args, strict: switches) do
      {opts, rest, []} -> {:ok, Map.merge(Map.new(opts), repeated(opts, switches)), rest}
      {_opts, _rest, _invalid} -> :usage
    end
  end

  defp repeated(opts, switches),
    do: for({name, type} <- switches, :keep in List.wrap(type), into: %{}, do: {name, Keyword.get_values(opts, name)})

  defp suite(name) do
    with :error <- Map.fetch(@suites, name), do: :usage
  end

  defp import(disk, files, suite, skip_bad) do
    name = __MODULE__.Import

    with {:ok, adapter} <- Place.adapter(disk) do
      Opened.with_child({EventSeal, name: name, store: adapter, suite: suite, pool_window: 0}, fn ->
        with {:ok, report} <- Import.run(name, files, skip_bad: skip_bad, progress: Report.progress()) do
          Report.import(report, disk[:dir])
          if report.kept, do: 0, else: 1
        end
      end)
    end
  end

  # Empty where events are to be imported anew. Files of both sorts do not go together.
  defp kinds(files) do
    kinds = for file <- files, do: {Restore.kind(file), file}
    restored = for {{:ok, kind}, file} when kind != nil <- kinds, do: {kind, file}

    cond do
      error = Enum.find_value(kinds, fn {kind, _file} -> if match?({:error, _}, kind), do: kind end) -> error
      length(restored) in [0, length(files)] -> {:ok, restored}
      true -> {:error, Error.new(:invalid, field: :file, rule: "are of flows that were sealed and of events to import")}
    end
  end

  defp restore(disk, files) do
    Opened.with_store(disk, :write, fn store ->
      with {:ok, report} <- Restore.run(store, files) do
        Report.restore(report, disk[:dir])
        0
      end
    end)
  end

  @formats %{"interchange" => :interchange, "archive" => :archive}

  defp format(name) do
    with :error <- Map.fetch(@formats, name), do: :usage
  end

  defp export(disk, out, format) do
    Opened.with_reader(disk, fn store ->
      with {:ok, report} <- Export.run(store, out, format: format, progress: Report.progress()) do
        Report.export(report, out)
        0
      end
    end)
  end

  defp head(disk, out) do
    Opened.with_reader(disk, fn store ->
      with {:ok, count} <- Heads.write(store, out) do
        Report.head(count, out)
        0
      end
    end)
  end

  defp verify_dir(disk, nil, opts), do: Opened.with_reader(disk, &verify_store(&1, opts, disk[:dir]))

  defp verify_dir(disk, apart, opts) do
    Opened.with_both(disk, apart, fn store, apart -> verify_store(store, [apart: apart] ++ opts, disk[:dir]) end)
  end

  defp ask_stamp(disk, opts, out) do
    Opened.with_reader(disk, fn store ->
      with {:ok, request} <- Kept.request(store, opts), :ok <- write(out, request) do
        Report.stamp_request(out)
        0
      end
    end)
  end

  defp keep_stamp(disk, request, response, anchors) do
    with {:ok, request} <- read(request), {:ok, response} <- read(response) do
      Opened.with_store(disk, :write, fn store ->
        with {:ok, stamp, _last} <- Kept.add(store, request, response, anchors) do
          Report.stamp(stamp, disk[:dir])
          0
        end
      end)
    end
  end

  defp verify_store(store, opts, dir), do: verdict(Verifier.run(store, [progress: Report.progress()] ++ opts), dir)

  defp prove(disk, flow, n, disclose, out) do
    Opened.with_reader(disk, fn store ->
      with {:ok, checkpoint} <- signed(store),
           {:ok, tree} <- Log.Tree.open(store),
           {:ok, text} <- Proof.make(store, tree, checkpoint, flow, n, disclose),
           :ok <- write(out, text) do
        Report.proof(n, disclose, out)
        0
      end
    end)
  end

  defp packet(disk, flow, opts, out) do
    Opened.with_reader(disk, fn store ->
      with {:ok, packet} <- Archive.packet(store, flow, Keyword.put_new(opts, :disclose, false)),
           :ok <- write(out, packet) do
        Report.packet(byte_size(packet), opts[:disclose], out)
        0
      end
    end)
  end

  defp page(disk, %{out: out} = opts) do
    with {:ok, audit} <- if(opts[:audit], do: Auditor.noted(opts[:audit]), else: {:ok, nil}) do
      Opened.with_reader(disk, fn store ->
        with {:ok, page} <-
               page(
                 store,
                 opts[:flow],
                 opts,
                 [title: disk[:dir], audit: audit, progress: Report.progress()] ++ anchors(opts)
               ),
             :ok <- write(out, Page.to_iodata(page)) do
          Report.page(Page.ok?(page), out)
          if Page.ok?(page), do: 0, else: 1
        end
      end)
    end
  end

  defp anchors(opts), do: Keyword.new(Map.take(opts, [:anchors]))

  defp page(store, nil, _opts, shown), do: Page.store(store, shown)
  defp page(store, flow, opts, shown), do: Page.flow(store, flow, [bodies: Map.get(opts, :bodies, false)] ++ shown)

  defp signed(store) do
    with {:ok, nil} <- Checkpoint.last(store),
         do: {:error, Error.new(:not_found, detail: "no checkpoint was signed yet")}
  end

  defp read(path), do: Error.posix(File.read(path), path)

  # A file that is there may be the one copy of something.
  defp write(path, text), do: Error.posix(File.write(path, text, [:exclusive]), path)

  defp doctor(disk, nil, kept) do
    Opened.with_store(disk, :examine, fn store ->
      with {:ok, found} <- Doctor.run(store, nil, kept), do: found(found, disk[:dir], nil)
    end)
  end

  defp doctor(disk, out, kept) do
    with :ok <- new(out, disk[:dir]) do
      Opened.with_store(disk, :examine, fn store ->
        Opened.with_store([dir: out], :write, fn saved ->
          with {:ok, found} <- Doctor.run(store, {saved, Path.join(out, "doctor")}, kept),
               do: found(found, disk[:dir], out)
        end)
      end)
    end
  end

  defp found(found, dir, out) do
    if out, do: Doctor.Apart.put(Path.join(out, "doctor"), "report.txt", Examination.record(found, dir))
    Examination.print(found, dir, out)
    if Doctor.healthy?(found), do: 0, else: 1
  end

  defp rebuild(disk, new, out, known) do
    with :ok <- there(disk), {:ok, out} <- record(new, out, disk[:dir]) do
      Opened.with_store(disk, :write, fn store ->
        Opened.with_store(new, :write, Opened.Apart, fn apart ->
          with {:ok, report} <- Rebuild.run(store, apart, [progress: Report.progress()] ++ known),
               do: rebuilt(report, disk[:dir], new[:dir], Path.join(out, "report.txt"))
        end)
      end)
    end
  end

  # Opening to write would make one.
  defp there(place) do
    if Place.database?(place) or File.dir?(place[:dir]),
      do: :ok,
      else: {:error, Error.new(:not_found, detail: "#{place[:dir]}: no store")}
  end

  # Where the record of a rebuilding is kept.
  defp record(new, out, dir) do
    cond do
      Place.database?(new) and out == nil -> :usage
      Place.database?(new) -> with(:ok <- new(out, dir), do: {:ok, out})
      true -> with(:ok <- new(new[:dir], dir, :verification), do: {:ok, out || Path.join(new[:dir], "rebuild")})
    end
  end

  defp rebuilt(report, dir, new, record) do
    lines = for decision <- report.decisions, do: [Decision.to_line(decision), ?\n]

    if Verdict.ok?(report.verdict),
      do: Doctor.Apart.put(Path.dirname(record), Path.basename(record), ["event-seal-rebuild/1\n" | lines])

    Report.rebuild(report, dir, new, record)
    if Verdict.ok?(report.verdict), do: 0, else: 1
  end

  # What is saved must meet nothing that is there, and never come into the store that is examined.
  defp new(out, dir, field \\ :out) do
    cond do
      String.starts_with?(Path.expand(out) <> "/", Path.expand(dir) <> "/") ->
        exists(field, out, "lies in the store itself")

      File.ls(out) in [{:ok, []}, {:error, :enoent}] ->
        :ok

      true ->
        exists(field, out, "is there already, and not an empty folder")
    end
  end

  defp exists(field, out, why), do: {:error, Error.new(:invalid, field: field, rule: "#{out} #{why}")}

  defp verify_files(files, keys, rate) do
    named = if match?([_], files), do: hd(files), else: "#{length(files)} files"
    verdict(if(keys == [], do: Interchange.verify_files(files, rate), else: Signed.verify(files, keys, rate)), named)
  end

  defp verdict({:ok, verdict}, what) do
    Report.verdict(verdict, what)
    if Verdict.ok?(verdict), do: 0, else: 1
  end

  defp verdict({:error, _} = error, _what), do: error

  defp could_not(text) do
    IO.puts(:stderr, text)
    2
  end
end
