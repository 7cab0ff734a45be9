defmodule EventSeal.Writer.HeapTest do
  use ExUnit.Case, async: true
  alias EventSeal.Writer.Heap

  defp expected, do: Process.info(self(), :garbage_collection) |> elem(1) |> Keyword.fetch!(:min_bin_vheap_size)

  defp spawned(fun) do
    test = self()
    :erlang.spawn_opt(fn -> send(test, {:done, fun.()}) end, Heap.spawn_opt())
    assert_receive {:done, result}, 60_000
    result
  end

  test "as many binaries are expected as are held, twice over, and no more once they are gone" do
    assert {began, held, gone} =
             spawned(fn ->
               began = expected()
               Heap.fit(1_000_000_000)
               held = expected()
               Heap.fit(0)
               {began, held, expected()}
             end)

    assert 8 * held >= 2_000_000_000
    assert gone == began
  end

  test "what is held is not collected again and again for the sake of its binaries" do
    {fitted, left_alone} = {spawned(fn -> majors(true) end), spawned(fn -> majors(false) end)}
    assert fitted < div(left_alone, 3), "#{fitted} of #{left_alone}"
  end

  # How often all is collected while 200 MB of binaries are taken up, with so much garbage beside them.
  defp majors(fit?) do
    test = self()
    tracer = spawn(fn -> count(0, test) end)
    :erlang.trace(self(), true, [:garbage_collection, {:tracer, tracer}])

    held =
      Enum.reduce(1..3_000, [], fn n, held ->
        if fit?, do: Heap.fit(n * 65_536)
        _garbage = Enum.to_list(1..20_000)
        [:binary.copy(<<n::32>>, 16_384) | held]
      end)

    3_000 = length(held)

    :erlang.trace(self(), false, [:garbage_collection])
    reference = :erlang.trace_delivered(self())
    receive do: ({:trace_delivered, _, ^reference} -> send(tracer, :done))
    receive do: ({:majors, count} -> count)
  end

  defp count(count, test) do
    receive do
      {:trace, _, :gc_major_end, _} -> count(count + 1, test)
      {:trace, _, _, _} -> count(count, test)
      :done -> send(test, {:majors, count})
    end
  end
end
