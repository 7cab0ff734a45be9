defmodule EventSeal.NativeTest do
  use ExUnit.Case, async: true

  alias EventSeal.Native

  @tag :tmp_dir
  test "a lock keeps a second holder out until it is given back or its holder dies", %{tmp_dir: dir} do
    path = Path.join(dir, "lock")
    assert {:ok, lock} = Native.lock(path)
    assert {:error, :locked} = Native.lock(path)
    assert :ok = Native.unlock(lock)

    holder =
      Task.async(fn ->
        {:ok, _lock} = Native.lock(path)
        :held
      end)

    assert :held = Task.await(holder)
    assert eventually(fn -> match?({:ok, _}, Native.lock(path)) end)
    assert {:error, :io} = Native.lock(Path.join(dir, "none/lock"))
  end

  defp eventually(check, tries \\ 200) do
    check.() or (tries > 0 and (Process.sleep(10) == :ok and eventually(check, tries - 1)))
  end
end
