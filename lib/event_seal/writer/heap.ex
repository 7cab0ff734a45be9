defmodule EventSeal.Writer.Heap do
  @moduledoc """
  When the VM collects a writer's garbage.

  Most of what a writer makes is binaries that live as long as their events are unsealed. The VM counts them, and collects
  the whole heap, with all the events that lie in it, once there are more than it expects: left to itself again and again,
  two thirds of all time, measured. So it is told to expect as many as there are.
  """

  # In words: 32 MB of binaries, 4 MB.
  @binaries 4_194_304
  @heap 500_000

  @doc "What a writer is spawned with."
  @spec spawn_opt :: [{:min_bin_vheap_size | :min_heap_size, pos_integer}]
  def spawn_opt, do: [min_bin_vheap_size: @binaries, min_heap_size: @heap]

  @doc """
  Fits the calling writer's heap to the bytes of events that it holds.

  They may double, with what lies beside them (digests, ids), before all is collected. In powers of two, so that this seldom
  changes.
  """
  @spec fit(non_neg_integer) :: :ok
  def fit(bytes) do
    Process.flag(:min_bin_vheap_size, expected(div(bytes, 2), @binaries))
    :ok
  end

  defp expected(words, size) when size >= words, do: size
  defp expected(words, size), do: expected(words, 2 * size)
end
