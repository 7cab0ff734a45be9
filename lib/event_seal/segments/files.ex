defmodule EventSeal.Segments.Files do
  @moduledoc """
  The one seam through which the store touches the file system.

  Another module with the same functions may take its place (`files:` of `EventSeal.Store.Disk`) and let any of them fail.
  All write at a given offset, so no file has a position that a failure could leave in the wrong place. New files are
  readable and writable by their owner alone; what is not a regular file, a symbolic link say, is not opened.
  """

  @type fd :: :file.fd()
  @type reason :: :file.posix() | :badarg | :terminated | :not_regular

  @callback create(Path.t()) :: {:ok, fd} | {:error, reason}
  @callback open(Path.t(), :read | :write) :: {:ok, fd} | {:error, reason}
  @callback close(fd) :: :ok | {:error, reason}
  @callback pwrite(fd, non_neg_integer, iodata) :: :ok | {:error, reason}
  @callback pread(fd, non_neg_integer, non_neg_integer) :: {:ok, binary} | :eof | {:error, reason}
  @callback datasync(fd) :: :ok | {:error, reason}
  @callback truncate(fd, non_neg_integer) :: :ok | {:error, reason}
  @callback size(Path.t()) :: {:ok, non_neg_integer} | {:error, reason}
  @callback rename(Path.t(), Path.t()) :: :ok | {:error, reason}
  @callback delete(Path.t()) :: :ok | {:error, reason}
  @callback list(Path.t()) :: {:ok, [String.t()]} | {:error, reason}
  @callback make_dir(Path.t()) :: :ok | {:error, reason}
  @callback sync_dir(Path.t()) :: :ok | {:error, reason}

  @doc "Makes a file that must not be there yet, mode 0600."
  @spec create(Path.t()) :: {:ok, fd} | {:error, reason}
  def create(path) do
    with {:ok, fd} <- :file.open(path, [:raw, :binary, :read, :write, :exclusive]) do
      case :file.change_mode(path, 0o600) do
        :ok -> {:ok, fd}
        {:error, reason} -> with :ok <- :file.close(fd), do: {:error, reason}
      end
    end
  end

  @doc "Opens a regular file for reading, or for reading and writing."
  @spec open(Path.t(), :read | :write) :: {:ok, fd} | {:error, reason}
  def open(path, mode) do
    with {:ok, _size} <- size(path), do: :file.open(path, [:raw, :binary | modes(mode)])
  end

  def close(fd), do: :file.close(fd)

  def pwrite(fd, offset, bytes), do: :file.pwrite(fd, offset, bytes)

  def pread(fd, offset, length), do: :file.pread(fd, offset, length)

  def datasync(fd), do: :file.datasync(fd)

  def truncate(fd, length) do
    with {:ok, ^length} <- :file.position(fd, length), do: :file.truncate(fd)
  end

  @doc "The size of a regular file; `:not_regular` for anything else, a symbolic link too."
  @spec size(Path.t()) :: {:ok, non_neg_integer} | {:error, reason}
  def size(path) do
    case File.lstat(path) do
      {:ok, %{type: :regular, size: size}} -> {:ok, size}
      {:ok, _other} -> {:error, :not_regular}
      {:error, reason} -> {:error, reason}
    end
  end

  def rename(from, to), do: :file.rename(from, to)

  def delete(path), do: :file.delete(path)

  def list(dir), do: File.ls(dir)

  @doc "Puts a file that can be made anew, so it is not synced: under another name first, so that it is there whole or not."
  @spec put(module, Path.t(), iodata) :: :ok | {:error, reason}
  def put(files, path, bytes) do
    staged = path <> ".new"
    files.delete(staged)

    with {:ok, fd} <- files.create(staged),
         :ok <- files.pwrite(fd, 0, bytes),
         :ok <- files.close(fd),
         do: files.rename(staged, path)
  end

  @doc "All bytes of a file."
  @spec get(module, Path.t()) :: {:ok, binary} | :eof | {:error, reason}
  def get(files, path) do
    with {:ok, size} <- files.size(path),
         {:ok, fd} <- files.open(path, :read) do
      read = files.pread(fd, 0, size)
      files.close(fd)
      read
    end
  end

  @chunk 1_048_576

  @doc "Copies bytes of one file, from an offset up to another, to the beginning of a second."
  @spec copy(module, fd, fd, non_neg_integer, non_neg_integer) :: :ok | {:error, reason}
  def copy(files, fd, to_fd, from, to), do: copy_on(files, {fd, from, to}, to_fd, 0)

  defp copy_on(_files, {_fd, from, to}, _to_fd, done) when from + done >= to, do: :ok

  defp copy_on(files, {fd, from, to} = range, to_fd, done) do
    with {:ok, bytes} <- files.pread(fd, from + done, min(@chunk, to - from - done)),
         :ok <- files.pwrite(to_fd, done, bytes) do
      copy_on(files, range, to_fd, done + byte_size(bytes))
    else
      :eof -> {:error, :terminated}
      {:error, reason} -> {:error, reason}
    end
  end

  @doc "Makes a folder, mode 0700, unless it is there."
  @spec make_dir(Path.t()) :: :ok | {:error, reason}
  def make_dir(path) do
    case :file.make_dir(path) do
      :ok -> :file.change_mode(path, 0o700)
      {:error, :eexist} -> if match?({:ok, %{type: :directory}}, File.lstat(path)), do: :ok, else: {:error, :enotdir}
      {:error, reason} -> {:error, reason}
    end
  end

  @doc "Syncs a folder: only then does a file that was made or renamed in it survive the loss of power."
  @spec sync_dir(Path.t()) :: :ok | {:error, reason}
  def sync_dir(path) do
    with {:ok, fd} <- :file.open(path, [:raw, :read, :directory]) do
      result = :file.sync(fd)
      :ok = :file.close(fd)
      result
    end
  end

  defp modes(:read), do: [:read]
  defp modes(:write), do: [:read, :write]
end
