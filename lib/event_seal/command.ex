defmodule EventSeal.Command do
  @moduledoc """
  The commands behind `mix event_seal.import`, `mix event_seal.export`, `mix event_seal.verify`,
  `mix event_seal.head`, `mix event_seal.keygen`, `mix event_seal.checkpoint`, `mix event_seal.prove`,
  `mix event_seal.report`, `mix event_seal.doctor`, `mix event_seal.setup` and `mix event_seal.migrate`, for where there is
  no Mix: in a release, through `eval`.

      bin/clinic eval 'System.halt(EventSeal.Command.verify(["--dir", "data"]))'

  Each takes the task's arguments, prints its report and returns the exit status: 0 all went well (all verified), 1 faults
  or bad lines were found, 2 it could not run. Progress is shown on a terminal only.

  Where a folder is named by `--dir DIR [--archive DIR]`, a database can be by `--store postgres://USER@HOST/DATABASE`
  (`EventSeal.Store.Postgres`); its password is best given by `PGPASSWORD`. The doctor alone takes only folders.
  """

  alias EventSeal.{Auditor, Checkpoint, Doctor, Error, Export, Heads, Import, Interchange, Log, Migrate}
  alias EventSeal.{Page, Proof, Restore, Signer, Store, Verdict, Verifier}
  alias EventSeal.Command.{Examination, Place, Report}

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
  `--dir DIR [--archive DIR] [--head FILE] [--checkpoint FILE --key KEY…]` or `--file FILE…`, either with `--max-rate RATE`:
  see `EventSeal.Verifier`, `EventSeal.Heads`, `EventSeal.Checkpoint` and `EventSeal.Interchange`. A rate is a number of
  events a second, or of bytes with a unit: `20000`, `50MB` (B, kB, MB).
  """
  @spec verify([String.t()]) :: status
  def verify(args) do
    usage =
      "verify --dir DIR [--archive DIR] [--head FILE] [--checkpoint FILE --key KEY…], or verify --file FILE…; " <>
        "both [--max-rate 20000|50MB]"

    switches =
      [dir: :string, archive: :string, head: :string, checkpoint: :string, key: :keep] ++
        [file: :keep, max_rate: :string]

    run(usage, args, switches, fn opts, files ->
      with {:ok, rate} <- rate(opts[:max_rate]), do: verify(Map.delete(opts, :max_rate), files, rate)
    end)
  end

  defp verify(%{dir: _, file: [], key: keys} = opts, [], rate) when is_map_key(opts, :checkpoint) == (keys != []) do
    known = for {name, value} <- opts, name in [:head, :checkpoint] or (name == :key and keys != []), do: {name, value}
    verify_dir(Place.of(opts), known ++ rate)
  end

  defp verify(%{file: [_ | _] = files, key: []} = opts, more, rate) when map_size(opts) == 2,
    do: verify_files(files ++ more, rate)

  defp verify(_opts, _files, _rate), do: :usage

  @units %{"" => {1, :events}, "B" => {1, :bytes}, "kB" => {1_000, :bytes}, "MB" => {1_000_000, :bytes}}

  defp rate(nil), do: {:ok, []}

  defp rate(text) do
    case Integer.parse(text) do
      {count, unit} when count in 1..1_000_000_000 and is_map_key(@units, unit) ->
        {size, what} = @units[unit]
        {:ok, max_rate: {count * size, what}}

      _other ->
        :usage
    end
  end

  @doc "`--name NAME --out FILE [--witness]`: see `EventSeal.Signer.File`."
  @spec keygen([String.t()]) :: status
  def keygen(args) do
    run("keygen --name NAME --out FILE [--witness]", args, [name: :string, out: :string, witness: :boolean], fn
      %{name: name, out: out} = opts, [] ->
        with {:ok, key} <- Signer.File.generate(out, name, if(opts[:witness], do: :witness, else: :log)) do
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
        with_reader(Place.of(opts), fn store ->
          with {:ok, checkpoint} <- signed(store), :ok <- write(out, checkpoint.note) do
            Report.checkpoint(checkpoint, out)
            0
          end
        end)

      _opts, _files ->
        :usage
    end)
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

  @doc "`--dir DIR [--archive DIR] [--flow FLOW [--bodies]] [--audit FILE] --out FILE`: see `EventSeal.Page`."
  @spec report([String.t()]) :: status
  def report(args) do
    run(
      "report --dir DIR [--archive DIR] [--flow FLOW [--bodies]] [--audit FILE] --out FILE",
      args,
      [dir: :string, archive: :string, flow: :string, bodies: :boolean, audit: :string, out: :string],
      fn
        %{bodies: _} = opts, [] when not is_map_key(opts, :flow) -> :usage
        %{dir: _, out: _} = opts, [] -> page(Place.of(opts), opts)
        _opts, _files -> :usage
      end
    )
  end

  @doc "`--dir DIR [--archive DIR] [--out NEW]`: see `EventSeal.Doctor`."
  @spec doctor([String.t()]) :: status
  def doctor(args) do
    run("doctor --dir DIR [--archive DIR] [--out NEW]", args, [dir: :string, archive: :string, out: :string], fn
      %{dir: _} = opts, [] -> doctor(Place.of(opts), opts[:out])
      _opts, _files -> :usage
    end)
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
    with_store(from, :read, fn old ->
      with_store(to, :write, fn new ->
        with {:ok, report} <- Migrate.run(old, new, progress: Report.progress()) do
          Report.migrate(report, to[:dir])
          verdict({:ok, report.verdict}, to[:dir])
        end
      end)
    end)
  end

  @doc "`--store URL [--print]`: makes a store's tables in PostgreSQL, or prints how; see `EventSeal.Store.Postgres`."
  @spec setup([String.t()]) :: status
  def setup(args) do
    run("setup --store postgres://… [--print]", args, [dir: :string, print: :boolean], fn
      %{dir: _, password: _} = opts, [] -> setup(Place.of(opts), opts[:print] || false)
      _opts, _files -> :usage
    end)
  end

  defp setup(place, print) do
    with {:ok, {_postgres, opts}} <- Place.adapter(place) do
      if print, do: Report.sql(Store.Postgres.sql(opts)), else: set_up(opts)
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
    do: for({name, :keep} <- switches, into: %{}, do: {name, Keyword.get_values(opts, name)})

  defp suite(name) do
    with :error <- Map.fetch(@suites, name), do: :usage
  end

  defp import(disk, files, suite, skip_bad) do
    name = __MODULE__.Import

    with {:ok, adapter} <- Place.adapter(disk) do
      with_child({EventSeal, name: name, store: adapter, suite: suite, pool_window: 0}, fn ->
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
    with_store(disk, :write, fn store ->
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
    with_reader(disk, fn store ->
      with {:ok, report} <- Export.run(store, out, format: format, progress: Report.progress()) do
        Report.export(report, out)
        0
      end
    end)
  end

  defp head(disk, out) do
    with_reader(disk, fn store ->
      with {:ok, count} <- Heads.write(store, out) do
        Report.head(count, out)
        0
      end
    end)
  end

  defp verify_dir(disk, opts) do
    with_reader(disk, fn store ->
      verdict(Verifier.run(store, [progress: Report.progress()] ++ opts), disk[:dir])
    end)
  end

  defp prove(disk, flow, n, disclose, out) do
    with_reader(disk, fn store ->
      with {:ok, checkpoint} <- signed(store),
           {:ok, tree} <- Log.Tree.open(store),
           {:ok, text} <- Proof.make(store, tree, checkpoint, flow, n, disclose),
           :ok <- write(out, text) do
        Report.proof(n, disclose, out)
        0
      end
    end)
  end

  defp page(disk, %{out: out} = opts) do
    with {:ok, audit} <- if(opts[:audit], do: Auditor.noted(opts[:audit]), else: {:ok, nil}) do
      with_reader(disk, fn store ->
        with {:ok, page} <-
               page(store, opts[:flow], opts, title: disk[:dir], audit: audit, progress: Report.progress()),
             :ok <- write(out, Page.to_iodata(page)) do
          Report.page(Page.ok?(page), out)
          if Page.ok?(page), do: 0, else: 1
        end
      end)
    end
  end

  defp page(store, nil, _opts, shown), do: Page.store(store, shown)
  defp page(store, flow, opts, shown), do: Page.flow(store, flow, [bodies: Map.get(opts, :bodies, false)] ++ shown)

  defp signed(store) do
    with {:ok, nil} <- Checkpoint.last(store),
         do: {:error, Error.new(:not_found, detail: "no checkpoint was signed yet")}
  end

  # A file that is there may be the one copy of something.
  defp write(path, text), do: Error.posix(File.write(path, text, [:exclusive]), path)

  defp doctor(disk, nil) do
    with_store(disk, :examine, fn store ->
      with {:ok, found} <- Doctor.run(store), do: found(found, disk[:dir], nil)
    end)
  end

  defp doctor(disk, out) do
    with :ok <- new(out, disk[:dir]) do
      with_store(disk, :examine, fn store ->
        with_store([dir: out], :write, fn saved ->
          with {:ok, found} <- Doctor.run(store, {saved, Path.join(out, "doctor")}), do: found(found, disk[:dir], out)
        end)
      end)
    end
  end

  defp found(found, dir, out) do
    if out, do: Doctor.Apart.put(Path.join(out, "doctor"), "report.txt", Examination.record(found, dir))
    Examination.print(found, dir, out)
    if Doctor.healthy?(found), do: 0, else: 1
  end

  # What is saved must meet nothing that is there, and never come into the store that is examined.
  defp new(out, dir) do
    cond do
      String.starts_with?(Path.expand(out) <> "/", Path.expand(dir) <> "/") -> exists(out, "lies in the store itself")
      File.ls(out) in [{:ok, []}, {:error, :enoent}] -> :ok
      true -> exists(out, "is there already, and not an empty folder")
    end
  end

  defp exists(out, why), do: {:error, Error.new(:invalid, field: :out, rule: "#{out} #{why}")}

  defp verify_files(files, rate) do
    named = if match?([_], files), do: hd(files), else: "#{length(files)} files"
    verdict(Interchange.verify_files(files, rate), named)
  end

  defp verdict({:ok, verdict}, what) do
    Report.verdict(verdict, what)
    if Verdict.ok?(verdict), do: 0, else: 1
  end

  defp verdict({:error, _} = error, _what), do: error

  # A reader takes no lock: the host that holds the store goes on.
  defp with_reader(disk, fun), do: with_store(disk, :read, fun)

  defp with_store(disk, mode, fun) do
    name = if mode == :write, do: __MODULE__.Saved, else: __MODULE__.Reader

    with {:ok, {module, opts}} <- Place.adapter(disk, mode: mode),
         do: with_child(module.child_spec({name, opts}), fn -> fun.(Store.handle(module, name)) end)
  end

  defp with_child(child, fun) do
    trapping = Process.flag(:trap_exit, true)

    try do
      with {:ok, supervisor} <- Supervisor.start_link([child], strategy: :one_for_one) do
        try do
          fun.()
        after
          Supervisor.stop(supervisor)
        end
      end
    after
      Process.flag(:trap_exit, trapping)
    end
  end

  defp could_not(text) do
    IO.puts(:stderr, text)
    2
  end
end
