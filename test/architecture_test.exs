defmodule EventSeal.ArchitectureTest do
  # ARCHITECTURE.md, "Layers": each part imports only what stands below it, and verification nothing of writing. What a
  # module names is read from its compiled code, so a struct or a child spec counts as well as a call.
  use ExUnit.Case, async: true

  # From the lowest layer to the highest. A part is its modules with all that is nested in them; it may name itself and
  # every part of a lower layer, but no other part of its own layer.
  @layers [
    [native: [EventSeal.Native]],
    [
      data:
        [EventSeal.Error, EventSeal.Hash, EventSeal.Event, EventSeal.Verdict, EventSeal.Fault] ++
          [EventSeal.Chain, EventSeal.Record, EventSeal.Verification, EventSeal.Interchange, EventSeal.Kept]
    ],
    [telemetry: [EventSeal.Telemetry], clock: [EventSeal.Clock], postgres: [EventSeal.Postgres]],
    [store: [EventSeal.Store]],
    [instance: [EventSeal.Instance], options: [EventSeal.Options]],
    [segments: [EventSeal.Segments], checkpoints: [EventSeal.Checkpoint]],
    [signing: [EventSeal.Signer], tree: [EventSeal.Log.Tree]],
    [proving: [EventSeal.Proof, EventSeal.Receipt], stamping: [EventSeal.Stamp]],
    [archiving: [EventSeal.Archive]],
    [disk: [EventSeal.Store.Disk], memory: [EventSeal.Store.Memory], database: [EventSeal.Store.Postgres]],
    [
      writing: [EventSeal.Writer, EventSeal.Batch, EventSeal.Flow],
      reading: [EventSeal.Reader],
      verifying: [EventSeal.Verifier, EventSeal.Heads],
      exporting: [EventSeal.Export]
    ],
    [apart: [EventSeal.Apart], deciding: [EventSeal.Decision]],
    [log: [EventSeal.Log]],
    [facade: [EventSeal, EventSeal.Await, EventSeal.Alarm, EventSeal.Auditor]],
    [
      erlang: [:event_seal],
      witnessing: [EventSeal.Witness],
      importing: [EventSeal.Import],
      restoring: [EventSeal.Restore],
      moving: [EventSeal.Migrate],
      doctor: [EventSeal.Doctor],
      rebuilding: [EventSeal.Rebuild],
      page: [EventSeal.Page]
    ],
    [command: [EventSeal.Command]],
    [tasks: [Mix.Tasks.EventSeal]]
  ]

  # The core's modules, likewise: a file may use those above it in this list. Verification uses nothing of writing.
  @core ~w(lanes suite wire digest link merkle log note checkpoint event genesis block proof receipt verify kept archive chain interchange
           import reference tests lib)

  @writing [:open, :stamp, :frames, :settle, :settle_many, :seal, :close]

  @parts for {layer, depth} <- Enum.with_index(@layers), {part, modules} <- layer, do: {part, depth, modules}

  test "each part imports only what stands below it" do
    modules = modules()

    wrong =
      for module <- modules, named <- named(module, modules), not allowed?(part(module), part(named)) do
        "#{inspect(module)} names #{inspect(named)}"
      end

    assert wrong == []
  end

  test "each module belongs to a part" do
    assert Enum.filter(modules(), &is_nil(part(&1))) == []
  end

  test "in the core too each module uses only what stands below it" do
    sources = Path.wildcard("native/core/src/**/*.rs")
    assert Enum.reject(sources, &(core_module(&1) in @core)) == []

    wrong =
      for path <- sources,
          [_, used] <- Regex.scan(~r/\bcrate::([a-z_]+)/, code(path)),
          rank(used) > rank(core_module(path)) do
        "#{path} uses #{used}"
      end

    assert wrong == []
  end

  test "the core has unsafe code in one file alone" do
    unsafe = for path <- Path.wildcard("native/core/**/*.rs"), code(path) =~ ~r/\bunsafe\b/, do: path
    assert unsafe == ["native/core/src/lanes/x86.rs"]
  end

  test "verification imports nothing of writing" do
    for path <- Path.wildcard("native/core/src/**/*.rs"), core_module(path) == "verify" do
      refute code(path) =~ ~r/\b(settle|seal|Sealing|pack_tail|Links)\b/, path
    end

    for module <- [EventSeal.Verifier, EventSeal.Verification], Code.ensure_loaded?(module) do
      {:ok, {_, [imports: imports]}} = :beam_lib.chunks(:code.which(module), [:imports])
      assert for({EventSeal.Chain, function, _} <- imports, function in @writing, do: function) == []
    end
  end

  test "every function that ARCHITECTURE.md names is there" do
    page = File.read!("ARCHITECTURE.md")
    functions = Regex.scan(~r/`([A-Z][\w.]*)\.([a-z_]+[?!]?)\/(\d)`/, page, capture: :all_but_first)
    assert length(functions) > 15

    for [module, name, arity] <- functions do
      module = Module.concat([module])
      assert Code.ensure_loaded?(module), inspect(module)

      assert function_exported?(module, String.to_atom(name), String.to_integer(arity)),
             "#{inspect(module)}.#{name}/#{arity}"
    end

    for [module, name] <- Regex.scan(~r/`event_seal_core::(\w+)::(\w+)`/, page, capture: :all_but_first) do
      sources = Enum.filter(Path.wildcard("native/core/src/**/*.rs"), &(core_module(&1) == module))
      assert Enum.any?(sources, &(code(&1) =~ ~r/pub fn #{name}\b/)), "#{module}::#{name}"
    end

    for [module] <- Regex.scan(~r/`(EventSeal[\w.]*)`/, page, capture: :all_but_first) do
      assert Code.ensure_loaded?(Module.concat([module])), module
    end
  end

  defp modules do
    {:ok, modules} = :application.get_key(:event_seal, :modules)
    support = Path.wildcard("test/support/**/*.ex")
    Enum.reject(modules, &(Path.relative_to_cwd(to_string(&1.module_info(:compile)[:source])) in support))
  end

  # The application bears the Erlang face's name, so that atom alone says nothing: there only calls count.
  defp named(module, modules) do
    beam = :code.which(module)
    {:ok, {_, [atoms: atoms, imports: imports]}} = :beam_lib.chunks(beam, [:atoms, :imports])
    called = for {:event_seal, _, _} <- imports, do: :event_seal
    mentioned = for {_, atom} <- atoms, atom in modules, atom not in [module, :event_seal], do: atom
    Enum.uniq(called ++ mentioned)
  end

  defp allowed?({part, _}, {part, _}), do: true
  defp allowed?({_, from}, {_, to}), do: to < from
  defp allowed?(_, _), do: true

  # The part of the longest name that the module is, or is nested in; the facade's holds no more than itself.
  defp part(module) do
    name = module |> Atom.to_string() |> String.replace_prefix("Elixir.Inspect.", "Elixir.")

    @parts
    |> Enum.flat_map(fn {part, depth, modules} ->
      for owner <- modules, holds?(owner, name), do: {owner, part, depth}
    end)
    |> Enum.max_by(fn {owner, _, _} -> byte_size(Atom.to_string(owner)) end, fn -> nil end)
    |> then(&(&1 && {elem(&1, 1), elem(&1, 2)}))
  end

  defp holds?(EventSeal, name), do: name == "Elixir.EventSeal"
  defp holds?(owner, name), do: name == Atom.to_string(owner) or String.starts_with?(name, "#{owner}.")

  defp core_module(path) do
    path |> Path.relative_to("native/core/src") |> Path.rootname() |> Path.split() |> hd()
  end

  # A file without its tests and comments.
  defp code(path) do
    path |> File.read!() |> String.split("#[cfg(test)]\nmod ") |> hd() |> String.replace(~r{//.*}, "")
  end

  # What the crate's root re-exports comes from the lowest modules.
  defp rank(module), do: Enum.find_index(@core, &(&1 == module)) || 0
end
