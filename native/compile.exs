defmodule Mix.Tasks.Compile.EventSealNative do
  @moduledoc false
  # Builds the NIF library with cargo and installs it into priv/. Cargo decides what is stale: it is asked every time,
  # since Mix compares whole seconds and would miss an edit.
  use Mix.Task.Compiler

  @root Path.dirname(__DIR__)

  @impl true
  def run(_args) do
    cargo = System.find_executable("cargo") || Mix.raise(missing_cargo())
    target = System.get_env("CARGO_TARGET_DIR") || Path.join(@root, "target")
    args = ~w(build --release --locked --quiet --package event-seal-nif --target-dir) ++ [target]

    case System.cmd(cargo, args, cd: @root, into: IO.stream(:stdio, :line), stderr_to_stdout: true) do
      {_, 0} -> install(Path.join([target, "release", "libevent_seal_nif" <> extension()]))
      {_, _} -> {:error, [diagnostic("cargo could not build native/nif; its messages stand above")]}
    end
  end

  # Copy, then rename: a library that is loaded must never be written over.
  defp install(built) do
    installed = Path.join([@root, "priv", "native", "event_seal.so"])

    if same?(built, installed) do
      {:noop, []}
    else
      staged = installed <> ".#{System.pid()}"
      File.cp!(built, staged)
      File.rename!(staged, installed)
      {:ok, []}
    end
  end

  defp same?(a, b), do: match?({:ok, _}, File.stat(b)) and digest(a) == digest(b)
  defp digest(path), do: path |> File.read!() |> :erlang.md5()

  # macOS links a .dylib; the VM loads libraries by the name .so there too.
  defp extension, do: if(match?({:unix, :darwin}, :os.type()), do: ".dylib", else: ".so")

  defp diagnostic(message) do
    %Mix.Task.Compiler.Diagnostic{
      compiler_name: "event_seal_native",
      file: Path.join(@root, "native/nif/Cargo.toml"),
      message: message,
      position: nil,
      severity: :error
    }
  end

  defp missing_cargo do
    "EventSeal needs Rust's cargo (1.91 or newer) to build its native part, and cargo is not in PATH. " <>
      "Install it from https://rustup.rs and compile again."
  end
end
