defmodule EventSeal.ApartDoctorTest do
  # What of a damaged store only its digests or its log were hit in is saved whole from its verification store; frames and
  # bodies are nowhere else.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO
  alias EventSeal.{BitRot, Command, Doctor, Forgery, Kept, KeptStore, Signer, Store, Verdict}

  @moduletag :tmp_dir
  @moduletag :capture_log
  @moduletag timeout: 60_000
  @flow "patient/1"

  setup %{tmp_dir: tmp} do
    paths = Map.new([:store, :apart, :out, :key_file], &{&1, Path.join(tmp, "#{&1}")})
    {:ok, key} = Signer.File.generate(paths.key_file, "clinic.example/log")
    context = Map.merge(paths, %{key: key, name: :"hit-#{System.unique_integer([:positive])}"})
    start(context)

    for from <- [1, 11, 21] do
      items = for n <- from..(from + 9), do: {@flow, %{when: n, kind: "vital", body: "body #{n}"}}
      {:ok, _} = EventSeal.append_many(context.name, items)
      {:ok, _} = EventSeal.seal(context.name, @flow)
    end

    {:ok, _} = EventSeal.append_many(context.name, for(n <- 1..5, do: {"patient/2", %{when: n, kind: "vital"}}))
    {:ok, _} = EventSeal.close(context.name, "patient/2")
    {:ok, _} = EventSeal.checkpoint(context.name)
    stop_supervised!(context.name)
    Map.put(context, :honest, Forgery.read(context.store))
  end

  defp start(context) do
    tree = [name: context.name, store: {Store.Disk, dir: context.store}, verification: {Store.Disk, dir: context.apart}]
    tree = tree ++ [pool_window: 0, checkpoints: [signer: {Signer.File, context.key_file}, every: :infinity]]
    start_supervised!({EventSeal, tree}, id: context.name)
  end

  defp doctor(context, more) do
    me = self()
    fun = fn -> send(me, {:status, Command.doctor(["--dir", context.store | more])}) end
    text = capture_io(fun)
    assert_received {:status, status}
    {status, text}
  end

  # Zeros over so many bytes of a block's part: the front, or the digests in the end.
  defp hit(context, height, where) do
    {path, at} =
      BitRot.open(context.store, :read, fn store ->
        {:ok, pieces} = Store.blocks(store, @flow, {1, :infinity})
        %{at: {:file, path, at, _length} = place} = Enum.at(pieces, height)
        {:ok, part} = Kept.cut(place)
        <<verification::64>> = path |> File.read!() |> binary_part(at + 8, 8)
        {path, at + if(where == :digests, do: verification - byte_size(part) + 700, else: 140)}
      end)

    {:ok, file} = :file.open(path, [:raw, :binary, :read, :write])
    :ok = :file.pwrite(file, at, <<0::unit(8)-size(40)>>)
    :ok = :file.close(file)
  end

  test "blocks whose digests were hit are saved as they were sealed, on record", context do
    hit(context, 0, :digests)
    hit(context, 1, :front)
    assert {1, text} = doctor(context, [])
    refute text =~ "No settled event is known to be lost"
    assert {1, text} = doctor(context, ["--verification", context.apart, "--out", context.out])
    assert text =~ "2 of these blocks hold with the digests that the verification store has of them"
    assert text =~ "No settled event is known to be lost"
    assert text =~ "The new store was verified: no fault."

    saved = Forgery.read(context.out)
    assert saved.flows == context.honest.flows
    assert Enum.take(saved.leaves, length(context.honest.leaves)) == context.honest.leaves
    assert [<<5, _::binary>>] = Enum.drop(saved.leaves, length(context.honest.leaves))
    assert saved.checkpoints == context.honest.checkpoints
    # What was put on record comes over like any leaf.
    assert {:ok, %Verdict{fault_count: 0, behind: 1}} = KeptStore.verdict(context.out, context.apart)
    start(%{context | store: context.out})
    assert {:ok, %Verdict{fault_count: 0, behind: 0, kept: 4}} = EventSeal.verify(context.name)
  end

  test "a block whose frames were hit stays what it is", context do
    body = "body 14"
    [path] = Path.wildcard(context.store <> "/segments/*.segment")
    [{at, _}] = :binary.matches(File.read!(path), body)
    {:ok, file} = :file.open(path, [:raw, :binary, :read, :write])
    :ok = :file.pwrite(file, at, "nothing")
    :ok = :file.close(file)
    hit(context, 1, :digests)
    assert {1, _text} = doctor(context, ["--verification", context.apart, "--out", context.out])
    # Its chain holds again; the body is named, and lost.
    assert [{@flow, 14, :commitment}] = Forgery.verify(context.out)
  end

  test "a log that was lost, or cut, is the verification store's, with what was logged since", context do
    for leaves <- [[], Enum.take(context.honest.leaves, 2)] do
      for dir <- [context.store, context.out], do: File.rm_rf!(dir)
      Forgery.write!(%{context.honest | leaves: leaves, checkpoints: []}, context.store)
      assert {1, text} = doctor(context, ["--verification", context.apart, "--out", context.out])
      assert text =~ "the log is the verification store's"
      saved = Forgery.read(context.out)
      assert Enum.take(saved.leaves, length(context.honest.leaves)) == context.honest.leaves
      assert saved.checkpoints == context.honest.checkpoints
      # For each flow: that it was brought back.
      assert [<<5, _::binary>>, <<5, _::binary>>] = Enum.drop(saved.leaves, length(context.honest.leaves))
      assert {:ok, %Verdict{fault_count: 0}} = KeptStore.verdict(context.out, context.apart)
      assert File.read!(Path.join(context.out, "doctor/report.txt")) =~ "log_kept true"
    end
  end

  test "a store that is well is saved as without one", context do
    assert {0, text} = doctor(context, ["--verification", context.apart])
    assert text =~ "is healthy"

    BitRot.open(context.apart, :read, fn kept ->
      BitRot.open(context.store, :examine, fn store ->
        assert {:ok, %Doctor{by_kept: 0, log_kept: false}} = Doctor.run(store, nil, kept)
      end)
    end)
  end
end
