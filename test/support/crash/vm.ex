defmodule EventSeal.Crash.Vm do
  @moduledoc false
  # The VM that is killed: `EventSeal.Crash.Load` runs in it, by a plan in a file. Or any other: it ends by itself.

  import ExUnit.Assertions, only: [flunk: 1]
  alias EventSeal.Crash.Load

  @doc "Runs the plan in a VM that kills itself at an operation on its files."
  def kill_itself(plan, path) do
    File.write!(path, :erlang.term_to_binary(plan))
    path |> launch(Load) |> await_exit()
  end

  @doc "Starts a VM that runs `module.main(path)` by this plan; its port, and its process id."
  def start(module, plan, path) do
    File.write!(path, :erlang.term_to_binary(plan))
    port = launch(path, module)
    {port, await_line(port, ~r/^boot (\d+)$/)}
  end

  @doc "Kills it."
  def kill({port, pid}) do
    {_, 0} = System.cmd("kill", ["-9", pid])
    await_exit(port)
  end

  @doc "Waits until it has ended by itself."
  def await({port, _pid}), do: await_exit(port, 0)

  @doc "Waits until it has ended by itself, or by `kill -9`, and says which."
  def outcome({port, _pid}) do
    receive do
      {^port, {:exit_status, 0}} -> :done
      {^port, {:exit_status, 137}} -> :killed
      {^port, {:exit_status, status}} -> flunk("the VM ended with #{status}")
      {^port, {:data, _}} -> outcome({port, nil})
    end
  end

  @doc "Runs the plan in a VM and kills it under load, or `while_opening`, when the store may still be opened."
  def kill_under_load(plan, path, while_opening) do
    {port, _pid} = vm = start(Load, plan, path)
    unless while_opening, do: await_line(port, ~r/^(ready)$/)
    Process.sleep(:rand.uniform(400))
    kill(vm)
  end

  defp launch(path, module) do
    paths = Enum.flat_map([:event_seal], &["-pa", &1 |> :code.lib_dir() |> Path.join("ebin")])
    args = paths ++ ["-e", "#{inspect(module)}.main(#{inspect(path)})"]

    Port.open({:spawn_executable, System.find_executable("elixir")}, [
      :binary,
      :exit_status,
      :stderr_to_stdout,
      line: 4096,
      args: args
    ])
  end

  defp await_line(port, pattern) do
    receive do
      {^port, {:data, {_, line}}} ->
        case Regex.run(pattern, line) do
          [_, found] -> found
          nil -> await_line(port, pattern)
        end

      {^port, {:exit_status, status}} ->
        flunk("the VM ended by itself (#{status}) before it said #{inspect(pattern)}")
    after
      120_000 -> flunk("the VM never said #{inspect(pattern)}")
    end
  end

  defp await_exit(port, expected \\ 137, said \\ []) do
    receive do
      {^port, {:exit_status, ^expected}} ->
        :ok

      {^port, {:exit_status, status}} ->
        flunk("the VM ended with #{status}: #{said |> Enum.reverse() |> Enum.join("\n")}")

      {^port, {:data, {_, line}}} ->
        await_exit(port, expected, Enum.take([line | said], 40))
    end
  end
end
