defmodule Bench.Peer do
  @moduledoc false
  # A program that stands beside ours: it ends when its standard input does, so it never outlives the bench.

  @ready 120_000
  @patience 900_000

  @doc "Starts a program that answers each line with a line of numbers."
  @spec start(String.t(), [String.t()], keyword) :: port
  def start(program, arguments, opts \\ []) do
    path = if program =~ "/", do: Path.expand(program), else: System.find_executable(program)
    unless path && File.exists?(path), do: raise("#{program} is not here")
    Port.open({:spawn_executable, path}, [:binary, :exit_status, {:line, 65_536}, args: arguments] ++ opts)
  end

  @doc """
  Starts a program that knows nothing of its standard input: a shell stands between and ends it, by its own id.
  """
  @spec serve([String.t()], String.t(), String.t()) :: port
  def serve(command, log, signal) do
    script =
      ~S(log=$1; signal=$2; shift 2; "$@" >"$log" 2>&1 </dev/null & read -r _; kill -s $signal $!; wait $!; echo 0 2>/dev/null)

    start("sh", ["-c", script, "sh", log, signal | command])
  end

  @doc "Waits until `ready?.()`; a server that has not come up by then is missing."
  @spec wait((() -> boolean), String.t(), non_neg_integer) :: :ok
  def wait(ready?, log, left \\ @ready) do
    cond do
      ready?.() -> :ok
      left <= 0 -> raise "it did not start: #{log |> File.read!() |> String.slice(-400, 400)}"
      true -> Process.sleep(100) && wait(ready?, log, left - 100)
    end
  end

  @doc "Asks by a line, and returns the numbers of the answer."
  @spec ask(port, String.t()) :: [float]
  def ask(port, line \\ "go") do
    Port.command(port, line <> "\n")

    receive do
      {^port, {:data, {:eol, answer}}} -> answer |> String.split() |> Enum.map(&number/1)
      {^port, {:exit_status, status}} -> raise "it ended with status #{status}"
    after
      @patience -> raise "no answer in #{div(@patience, 1000)} s"
    end
  end

  @doc "Ends it: its standard input is closed. A served program has ended when this returns."
  @spec stop(port) :: :ok
  def stop(port) do
    if Port.info(port), do: Port.close(port)
    :ok
  end

  @doc "Ends a program that answers when it has ended what it served, and waits for that. One that is gone is gone."
  @spec shut(port) :: :ok
  def shut(port) do
    ask(port, "stop")
    stop(port)
  rescue
    _gone in [ArgumentError, RuntimeError] -> stop(port)
  end

  defp number(text) do
    case Float.parse(text) do
      {number, ""} -> number
      _ -> raise "it said: #{text}"
    end
  end
end
