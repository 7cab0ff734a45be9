defmodule EventSeal.ArchiveTest do
  # Finished segments in a second folder: read and verified there, never changed, and moved without losing one.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  alias EventSeal.{Command, FaultyFiles, Store, Verdict}

  @moduletag :tmp_dir
  @moduletag :capture_log

  setup %{tmp_dir: tmp} do
    FaultyFiles.start()
    archive = Path.join(tmp, "archive")
    File.mkdir_p!(archive)
    {:ok, dir: Path.join(tmp, "store"), archive: archive}
  end

  defp open!(dir, opts) do
    store = {Store.Disk, [dir: dir, segment_bytes: 16_384, journal_bytes: 16_384, files: FaultyFiles] ++ opts}
    start_supervised!({EventSeal, name: __MODULE__, store: store, pool_window: 0}, id: __MODULE__)
  end

  defp close!, do: stop_supervised!(__MODULE__)

  defp fill(from \\ 1) do
    for n <- from..(from + 9), flow <- ["patient/1", "patient/2"] do
      events = for m <- 1..10, do: {flow, %{when: m, kind: "vital", body: String.duplicate("#{n}", 90)}}
      {:ok, _} = EventSeal.append_many(__MODULE__, events)
      {:ok, _} = EventSeal.seal(__MODULE__, flow)
    end
  end

  defp all, do: for(flow <- EventSeal.flows(__MODULE__), do: Enum.to_list(EventSeal.stream(__MODULE__, flow)))
  defp segments(dir), do: dir |> Path.join("*.segment") |> Path.wildcard() |> Enum.map(&Path.basename/1)
  defp contents(dir), do: for(path <- Path.wildcard(Path.join(dir, "*")), do: {path, File.read!(path)})

  defp until(fun, tries \\ 2_000) do
    unless fun.() do
      assert tries > 0
      Process.sleep(5)
      until(fun, tries - 1)
    end
  end

  defp sound! do
    assert {:ok, verdict} = EventSeal.verify(__MODULE__)
    assert Verdict.ok?(verdict)
  end

  test "what is finished is moved by itself; reading, verifying and appending go on", %{dir: dir, archive: archive} do
    open!(dir, archive: archive, archive_after: 10)
    fill()
    until(fn -> length(segments(Path.join(dir, "segments"))) == 1 end)
    events = all()
    sound!()
    fill(11)
    assert {:ok, _} = EventSeal.event(__MODULE__, "patient/1", hd(hd(events)).euid)
    close!()

    kept = contents(archive)
    assert length(kept) > 3
    open!(dir, archive: archive)
    assert Enum.map(all(), &length/1) == [200, 200]
    sound!()
    close!()
    assert kept == Enum.take(contents(archive), length(kept))
    assert File.stat!(hd(Path.wildcard(Path.join(archive, "*")))).mode |> Bitwise.band(0o777) == 0o600
    assert Command.verify(["--dir", dir, "--archive", archive]) == 0
    assert Command.doctor(["--dir", dir, "--archive", archive]) == 0
    assert Command.verify(["--dir", dir]) == 1
  end

  test "moved by hand, all of them and for good: the store goes on in new ones", %{dir: dir, archive: archive} do
    open!(dir, [])
    fill()
    events = all()
    close!()
    own = Path.join(dir, "segments")
    moved = segments(own)
    for name <- moved, do: File.rename!(Path.join(own, name), Path.join(archive, name))
    kept = contents(archive)
    open!(dir, archive: archive)
    assert all() == events
    fill(11)
    sound!()
    assert segments(own) != [] and segments(own) -- moved == segments(own)
    assert contents(archive) == kept
  end

  test "a flipped byte in the archive is a fault of its event", %{dir: dir, archive: archive} do
    open!(dir, archive: archive, archive_after: 0)
    fill()
    until(fn -> length(segments(Path.join(dir, "segments"))) == 1 end)
    path = Path.join(archive, hd(segments(archive)))
    bytes = File.read!(path)
    {at, _} = :binary.match(bytes, String.duplicate("1", 90))
    <<before::binary-size(at), _, rest::binary>> = bytes
    File.write!(path, [before, "x", rest])
    assert {:ok, %{faults: [%{flow: "patient/1", position: 1, class: :commitment}]}} = EventSeal.verify(__MODULE__)
  end

  for {operation, place, opts} <- [
        {:create, "archive", []},
        {:pwrite, "archive", half: true},
        {:datasync, "archive", []},
        {:rename, "archive", []},
        {:sync_dir, "archive", []},
        {:delete, "segments/00000001.segment", []}
      ] do
    test "a move whose #{operation} fails is made good, and nothing is missing meanwhile", %{dir: dir, archive: archive} do
      open!(dir, archive: archive, archive_after: 10)
      FaultyFiles.fail(unquote(operation), unquote(place), :eio, unquote(opts) ++ [times: 3])

      log =
        capture_log(fn ->
          fill()
          until(fn -> FaultyFiles.struck?(unquote(operation), unquote(place)) end)
          sound!()
          until(fn -> length(segments(Path.join(dir, "segments"))) == 1 end)
        end)

      assert log =~ "not archived: eio"
      sound!()
      assert Enum.map(all(), &length/1) == [100, 100]
    end
  end

  test "another file of a segment's name is not taken for its copy", %{dir: dir, archive: archive} do
    open!(dir, archive: archive)
    fill()
    close!()
    File.write!(Path.join(archive, "00000001.segment"), String.duplicate("x", 99_999))

    log = capture_log(fn -> open!(dir, archive: archive, archive_after: 0) end)
    assert log =~ "00000001.segment"
    close!()
    assert "00000001.segment" in segments(Path.join(dir, "segments"))
  end

  test "an archive that is not there is named, not taken for an empty one", %{dir: dir, archive: archive} do
    open!(dir, [])
    close!()
    File.rmdir!(archive)
    opts = [dir: dir, archive: archive]
    %{start: {module, function, args}} = Store.Disk.child_spec({__MODULE__.Missing, opts})
    Process.flag(:trap_exit, true)
    assert {:error, %{reason: :storage, detail: "open: archive: enoent"}} = apply(module, function, args)
    assert_raise ArgumentError, fn -> Store.Disk.child_spec({__MODULE__.Missing, dir: dir, archive_after: 1}) end
  end
end
