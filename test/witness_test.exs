defmodule EventSeal.WitnessTest do
  use ExUnit.Case, async: true

  alias EventSeal.{Checkpoint, Error, Signer, Store, Witness}

  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    keys =
      for {name, purpose} <- [log: :log, w1: :witness, w2: :witness], into: %{} do
        path = Path.join(dir, "#{name}.key")
        {:ok, key} = Signer.File.generate(path, "#{name}.example/x", purpose)
        {name, {path, key}}
      end

    names = for part <- [:log, :w1, :w2], into: %{}, do: {part, :"#{part}-#{System.unique_integer([:positive])}"}
    {path, _} = keys.log
    checkpoints = [signer: {Signer.File, path}, every: :infinity]
    start(names.log, dir, checkpoints: checkpoints)
    for part <- [:w1, :w2], do: start(names[part], dir, [])
    %{keys: keys, names: names, dir: dir}
  end

  defp start(name, dir, opts) do
    store = {Store.Disk, dir: Path.join(dir, to_string(name))}
    start_supervised!({EventSeal, [name: name, store: store, pool_window: 0] ++ opts}, id: name)
  end

  defp append(name, count) do
    {:ok, _} = EventSeal.append_many(name, for(n <- 1..count, do: {"patient/#{n}", %{when: n, kind: "vital"}}))
    {:ok, checkpoint} = EventSeal.checkpoint(name)
    checkpoint
  end

  defp ask(context, part, request) do
    {path, _key} = context.keys[part]
    {_path, log} = context.keys.log
    Witness.cosign(context.names[part], request, key: log, signer: {Signer.File, path})
  end

  test "cosigns what extends what it knows, and the log keeps the signatures", context do
    %{names: names, keys: %{log: {_, log}, w1: {_, w1}, w2: {_, w2}}} = context
    append(names.log, 3)
    {:ok, request} = EventSeal.witness_request(names.log, 0)
    assert {:ok, line} = ask(context, :w1, request)
    assert {:ok, with_one} = EventSeal.add_cosignatures(names.log, line, witnesses: [w1])
    assert [{^w1, time}] = with_one.cosignatures
    assert abs(time - System.os_time(:second)) < 60

    assert {:ok, %{size: 3, note: note}} = Witness.last(names.w1, "log.example/x")
    assert with_one.note == note <> line

    append(names.log, 5)
    {:ok, request} = EventSeal.witness_request(names.log, 3)
    {:ok, first} = ask(context, :w1, request)
    {:ok, request} = EventSeal.witness_request(names.log, 0)
    {:ok, second} = ask(context, :w2, request)
    assert {:ok, %{note: note}} = EventSeal.add_cosignatures(names.log, first <> second, witnesses: [w1, w2], quorum: 2)
    assert {:ok, %{cosignatures: [{^w1, _}, {^w2, _}]}} = Checkpoint.open(note, key: log, witnesses: [w1, w2])
    # What is proved from here on bears the witnesses' signatures.
    {:ok, _} = EventSeal.close(names.log, "patient/1")

    assert {:ok, %{note: ^note}} =
             Store.handle(Store.Disk, EventSeal.Instance.store_name(names.log)) |> Checkpoint.last()
  end

  test "refuses another size, another history and another key, and says so", context do
    %{names: names} = context
    append(names.log, 3)
    {:ok, request} = EventSeal.witness_request(names.log, 0)
    {:ok, _} = ask(context, :w1, request)
    # The very same may be asked again by its new size, not by the old one.
    assert {:error, %Error{reason: :stale, detail: detail}} = ask(context, :w1, request)
    assert detail =~ "3"
    {:ok, again} = EventSeal.witness_request(names.log, 3)
    assert {:ok, _} = ask(context, :w1, again)
    assert {:ok, %{accepted: 1}} = EventSeal.head(names.w1, "witness/log.example/x")

    # Another store with the same key shows another history.
    {path, log} = context.keys.log
    fork = :"fork-#{System.unique_integer([:positive])}"
    start(fork, context.dir, checkpoints: [signer: {Signer.File, path}, every: :infinity])
    append(fork, 5)
    {:ok, request} = EventSeal.witness_request(fork, 3)
    assert {:error, %Error{reason: :untrusted}} = ask(context, :w1, request)
    assert {:ok, %{size: 3}} = Witness.last(names.w1, "log.example/x")
    # A witness that has seen nothing cannot know.
    {:ok, request} = EventSeal.witness_request(fork, 0)
    assert {:ok, _} = ask(context, :w2, request)

    assert {:error, %Error{reason: :malformed}} = ask(context, :w1, "old 3\n")
    {w1_path, w1} = context.keys.w1
    # A witness's key is no log's, and a log's key does not cosign.
    for {key, path} <- [{w1, w1_path}, {log, path}] do
      assert {:error, %Error{reason: :invalid}} = Witness.cosign(names.w1, again, key: key, signer: {Signer.File, path})
    end
  end

  test "two that ask at once are not both first", context do
    %{names: names} = context
    append(names.log, 3)
    {:ok, small} = EventSeal.witness_request(names.log, 0)
    append(names.log, 9)
    {:ok, large} = EventSeal.witness_request(names.log, 0)
    outcomes = [small, large] |> Enum.map(&Task.async(fn -> ask(context, :w1, &1) end)) |> Task.await_many()
    assert [_] = for({:ok, line} <- outcomes, do: line)
    assert [%Error{reason: :stale}] = for({:error, error} <- outcomes, do: error)
  end

  test "lines that do not hold are not added", context do
    %{names: names, keys: %{w1: {_, w1}}} = context
    append(names.log, 3)
    {:ok, request} = EventSeal.witness_request(names.log, 0)
    {:ok, line} = ask(context, :w1, request)
    append(names.log, 4)
    # It is of the checkpoint before.
    assert {:error, %Error{reason: :untrusted}} = EventSeal.add_cosignatures(names.log, line, witnesses: [w1])
    assert {:error, %Error{reason: :malformed}} = EventSeal.add_cosignatures(names.log, "nonsense", witnesses: [w1])
  end
end
