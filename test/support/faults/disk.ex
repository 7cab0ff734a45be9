defmodule EventSeal.Faults.Disk do
  @moduledoc false
  # The ground of EventSeal.Store.Disk: a folder, on a machine that may stop at any moment, with or without its power.
  @behaviour EventSeal.Faults.Ground

  import :proper_types, only: [integer: 2, oneof: 1, frequency: 1]
  alias EventSeal.Faults.Fault
  alias EventSeal.{FaultyFiles, Store}
  alias EventSeal.FaultyFiles.Ledger
  alias EventSeal.Segments.Files

  @lines [
    {"kill -9", :kill},
    {"power loss", :power},
    {"full disk, ENOSPC at the seam", {:fail, :enospc}},
    {"no file handles, EMFILE at the seam", {:fail, :emfile}},
    {"EIO at the seam", {:fail, :eio}},
    {"process of the tree killed", :process},
    {"clock set", :clock},
    {"disk really full", :full},
    {"file handles really used up", :handles}
  ]

  @impl true
  def lines(_real), do: @lines

  @impl true
  def faults(real),
    do: [{6, fault()} | for(kind <- real, do: {2, {kind, integer(0, if(kind == :full, do: 16_384, else: 8))}})]

  defp moment, do: oneof([:before, :half, :after])
  defp where, do: frequency([{6, :store}, {1, :derived}])
  # Mostly soon, sometimes where a rotation or an opening is well on its way.
  defp passes, do: oneof([integer(0, 3), integer(0, 30)])

  defp fault do
    frequency([
      {5, {:kill, where(), passes(), moment()}},
      {7, {:power, oneof(Ledger.disks()), where(), passes(), moment()}},
      {10, fail()},
      {3, {:process, where(), passes(), integer(0, 9)}}
    ])
  end

  # Writes and syncs are what most depends on, and what there is most of.
  defp fail do
    operation =
      frequency([
        {8, :pwrite},
        {8, :datasync},
        {8, oneof([:create, :open, :pread, :truncate, :rename, :delete, :sync_dir, :make_dir])}
      ])

    {:fail, operation, oneof([:eio, :eio, :enospc, :emfile]), integer(0, 4), oneof([1, 1, 1, 2, 5]), moment()}
  end

  @impl true
  def fresh(dir) do
    File.rm_rf!(dir)
    Ledger.adopt(dir)
  end

  @impl true
  def store(dir), do: store(dir, FaultyFiles)

  defp store(dir, files), do: {Store.Disk, dir: dir, files: files, journal_bytes: 4096, segment_bytes: 4096}

  @impl true
  def tidy(name), do: Store.Disk.rotate(name)

  @impl true
  def arm(fault, _dir, machine, tree), do: Fault.arm(fault, machine, tree)

  @impl true
  def real?(fault), do: Fault.real?(fault)

  @impl true
  def release(_dir), do: Fault.release()

  @impl true
  def calm(_dir), do: :ok

  @impl true
  def reopened?, do: true

  @impl true
  def stopped(_dir, nil), do: :ok

  def stopped(dir, disk) do
    image = dir <> "-after"
    Ledger.image(dir, image, disk)
    File.rm_rf!(dir)
    if File.dir?(image), do: File.rename!(image, dir)
    Ledger.adopt(dir)
  end

  @impl true
  def probe(dir, probes, look) do
    for disk <- probes || Enum.take_random(Ledger.disks(), 2) do
      image = dir <> "-image"
      Ledger.image(dir, image, disk)
      look.({:without_power, disk}, store(image, Files))
      File.rm_rf!(image)
    end
  end
end
