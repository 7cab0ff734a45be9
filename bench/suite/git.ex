defmodule Bench.Git do
  @moduledoc false
  # A git repository that holds an event in each commit's message, and `git fsck` over it.

  @doc "A new repository below the folder, of so many commits."
  @spec start(Path.t(), pos_integer, pos_integer) :: Path.t()
  def start(dir, commits, bytes) do
    unless System.find_executable("git"), do: raise("git is not installed")
    {repository, stream} = {Path.join(dir, "git"), Path.join(dir, "commits")}
    File.mkdir_p!(repository)
    {_, 0} = git(repository, ["init", "--quiet", "--bare"])
    write(stream, commits, bytes)
    {_, 0} = System.cmd("sh", ["-c", ~S(git -C "$1" fast-import --quiet <"$2"), "sh", repository, stream])
    File.rm!(stream)
    repository
  end

  @spec stop(Path.t()) :: :ok
  def stop(_repository), do: :ok

  defp write(path, commits, bytes) do
    head = "commit refs/heads/main\ncommitter bench <bench@localhost> "
    body = ["data #{bytes}\n", Bench.Store.body(bytes), "\n\n"]

    File.open!(path, [:write, :raw, :delayed_write], fn file ->
      for n <- 1..commits, do: :ok = :file.write(file, [head, Integer.to_string(1_700_000_000 + n), " +0000\n", body])
    end)
  end

  @doc "Checks every object and how they are tied."
  @spec fsck(Path.t()) :: :ok
  def fsck(repository) do
    {_, 0} = git(repository, ["fsck", "--full", "--no-progress"])
    :ok
  end

  defp git(repository, arguments), do: System.cmd("git", ["-C", repository | arguments], stderr_to_stdout: true)
end
