defmodule Mix.Tasks.Compile.EventSealNative do
  @moduledoc false
  # Builds the NIF library with cargo and installs it into priv/. Cargo decides what is stale: it is asked every time,
  # since Mix compares whole seconds and would miss an edit.
  use Mix.Task.Compiler

  @root Path.dirname(__DIR__)
  @cargo ~w(build --release --locked --quiet --package event-seal-nif --message-format json-render-diagnostics)

  @impl true
  def run(_args) do
    cargo = System.find_executable("cargo") || Mix.raise(missing_cargo())

    # What cargo has to say to people goes to standard error; standard output names the files that it made, wherever
    # its configuration puts them.
    with {artifacts, 0} <- System.cmd(cargo, @cargo, cd: @root),
         [_, built] <- Regex.run(~r/"([^"]+event_seal_nif\.(?:so|dylib))"/, artifacts) do
      install(built)
    else
      _ -> {:error, [diagnostic("cargo could not build native/nif; its messages stand above")]}
    end
  end

  # The VM loads libraries by the name .so on macOS too. Copy, then rename: a loaded library must never be written over.
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

  defp diagnostic(message) do
    %Mix.Task.Compiler.Diagnostic{
      compiler_name: "event_seal_native",
      file: Path.join(@root, "native/nif/Cargo.toml"),
      message: message,
      position: 0,
      severity: :error
    }
  end

  defp missing_cargo do
    "EventSeal needs Rust's cargo (1.91 or newer) to build its native part, and cargo is not in PATH. " <>
      "Install it from https://rustup.rs and compile again."
  end
end
