defmodule EventSeal.FastFiles do
  @moduledoc false
  # EventSeal.Segments.Files without waiting for a disk: for tests that open thousands of stores and cut no power.
  alias EventSeal.Segments.Files
  @behaviour Files

  @impl true
  def datasync(_fd), do: :ok

  @impl true
  def sync_dir(_dir), do: :ok

  @impl true
  defdelegate create(path), to: Files
  @impl true
  defdelegate open(path, mode), to: Files
  @impl true
  defdelegate close(fd), to: Files
  @impl true
  defdelegate pwrite(fd, offset, bytes), to: Files
  @impl true
  defdelegate pread(fd, offset, length), to: Files
  @impl true
  defdelegate truncate(fd, length), to: Files
  @impl true
  defdelegate size(path), to: Files
  @impl true
  defdelegate rename(from, to), to: Files
  @impl true
  defdelegate delete(path), to: Files
  @impl true
  defdelegate list(dir), to: Files
  @impl true
  defdelegate make_dir(path), to: Files
end
