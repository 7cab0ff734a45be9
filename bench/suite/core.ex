defmodule Bench.Core do
  @moduledoc false
  # The Rust examples beside the core: they answer each line with a number.

  @spec start(String.t(), [String.t()]) :: port
  def start(example, arguments) do
    cargo = ~w(--release --locked --quiet --package event-seal-core --example #{example})

    case System.cmd("cargo", ["build" | cargo], stderr_to_stdout: true) do
      {_, 0} -> Bench.Peer.start("cargo", ["run" | cargo] ++ ["--" | arguments])
      {said, _} -> raise "it could not be built: #{String.slice(said, -200, 200)}"
    end
  end

  @spec stop(port) :: :ok
  def stop(peer), do: Bench.Peer.stop(peer)
end
