defmodule Bench.Machine do
  @moduledoc false
  # What the figures were taken on, and with which versions.

  @crates ~w(blake3 rayon rustler sha2)

  @spec machine :: %{String.t() => String.t() | number | nil}
  def machine do
    %{
      "cpu" =>
        find("/proc/cpuinfo", ~r/^model name\s*: (.+)$/m) || to_string(:erlang.system_info(:system_architecture)),
      "cores" => System.schedulers_online(),
      "governor" => read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
      "memory_mb" => memory(),
      "sha_extensions" => feature("sha_ni"),
      "avx512" => feature("avx512bw"),
      "system" => find("/etc/os-release", ~r/^PRETTY_NAME="(.+)"$/m)
    }
  end

  @spec versions :: %{String.t() => String.t() | nil}
  def versions do
    Map.merge(crates(), %{
      "event_seal" => to_string(Application.spec(:event_seal, :vsn)),
      "elixir" => System.version(),
      "otp" => System.otp_release(),
      "rustc" => said("rustc", ["--version"]),
      "git" => said("git", ["--version"]),
      "postgresql" => said(Bench.Postgres.program("postgres"), ["--version"]),
      "umadb" => Bench.Umadb.version()
    })
  end

  defp crates do
    lock = File.read!("Cargo.lock")
    for name <- @crates, into: %{}, do: {name, match(lock, ~r/name = "#{name}"\nversion = "([^"]+)"/)}
  end

  defp memory do
    with text when text != nil <- find("/proc/meminfo", ~r/^MemTotal:\s+(\d+) kB$/m),
         do: div(String.to_integer(text), 1024)
  end

  defp feature(flag) do
    with flags when flags != nil <- find("/proc/cpuinfo", ~r/^flags\s*: (.+)$/m),
         do: if(flag in String.split(flags), do: "yes", else: "no")
  end

  defp find(path, pattern), do: with(text when text != nil <- read(path), do: match(text, pattern))

  defp match(text, pattern), do: with([_, found] <- Regex.run(pattern, text), do: found)

  defp read(path), do: with({:ok, text} <- File.read(path), do: String.trim(text), else: (_ -> nil))

  defp said(program, arguments) do
    with path when path != nil <- program && System.find_executable(program),
         {text, 0} <- System.cmd(path, arguments, stderr_to_stdout: true) do
      match(text, ~r/(\d+(?:\.\d+)+)/)
    else
      _ -> nil
    end
  end
end
