defmodule EventSeal.Store.Disk.Folder do
  @moduledoc false
  # The store's folder: whose it is, of which version, and who holds it.
  #
  #   identity        what this folder is, in four lines of text and a checksum
  #   lock            held by the one who writes
  #   journal-…       all that is not sealed; one generation at a time
  #   segments/       what is sealed, and what a rotation moved out of the journal
  #   aside/          what was cut off: torn groups, and bytes that no journal knew of
  #
  # Names are made of numbers alone; a flow id is never part of a path.

  alias EventSeal.{Error, Native, Store}
  alias EventSeal.Store.Disk.Journal

  @version 1
  # A lock outlives its killed holder by the sync that this was in, which on a slow disk takes a second or two.
  @tries 200

  def segments(dir), do: Path.join(dir, "segments")

  @doc "Where segments lie: the store's own folder of them, and the archive or nil."
  def dirs(dir, opts), do: {segments(dir), opts[:archive]}

  def aside(dir), do: Path.join(dir, "aside")
  defp identity(dir), do: Path.join(dir, "identity")

  @doc "Takes the folder for writing; a new one is made."
  def take(files, dir) do
    with :ok <- made(files, dir),
         {:ok, lock} <- lock(Path.join(dir, "lock"), @tries) do
      case owned(files, dir) do
        {:ok, store_id} ->
          # Whoever made it, it is the store's now; where that is not ours to say, it stays as it is.
          :file.change_mode(dir, 0o700)
          {:ok, store_id, lock}

        {:error, error} ->
          Native.unlock(lock)
          {:error, error}
      end
    end
  end

  @doc "Looks at the folder without holding or changing it."
  def look(files, dir) do
    case File.lstat(segments(dir)) do
      {:ok, %{type: type}} when type != :directory -> foreign("its segments are not in a folder")
      _folder -> with {:error, :none} <- read_identity(files, dir), do: none()
    end
  end

  defp none, do: {:error, Error.new(:not_found, detail: "no store in this folder")}

  @doc """
  Looks at a folder that may be damaged. Whose it is, most of its files say, if the identity does not: then that is noted.
  """
  def examine(files, dir) do
    with {:error, error} <- look(files, dir) do
      case ids(files, dir) do
        [] -> {:error, error}
        ids -> {:ok, most(ids), [%{what: :damaged_identity, file: "identity", offset: nil}]}
      end
    else
      {:ok, store_id} -> {:ok, store_id, []}
    end
  end

  defp most(ids), do: ids |> Enum.frequencies() |> Enum.max_by(&elem(&1, 1)) |> elem(0)

  # Journals and segments both begin with eight bytes of magic and bear the store's id, at 20 and at 16.
  defp ids(files, dir) do
    for folder <- [dir, segments(dir)],
        {:ok, names} <- [files.list(folder)],
        name <- names,
        {:ok, fd} <- [files.open(Path.join(folder, name), :read)],
        id <- [id(files.pread(fd, 0, 36))],
        :ok = files.close(fd),
        id != nil,
        do: id
  end

  defp id({:ok, <<"EVSEALJ1", @version::16, _::binary-10, id::binary-16>>}), do: id
  defp id({:ok, <<"EVSEALS1", @version::16, _::binary-6, id::binary-16, _::binary>>}), do: id
  defp id(_other), do: nil

  defp made(files, dir) do
    case File.stat(dir) do
      {:ok, %{type: :directory}} ->
        :ok

      {:ok, _other} ->
        foreign("not a folder")

      {:error, :enoent} ->
        storage(files.make_dir(dir), "make folder")

      {:error, reason} ->
        storage({:error, reason}, "folder")
    end
  end

  # The lock of a process that was killed in this VM goes with its heap, a moment later.
  defp lock(path, tries) do
    with true <- match?({:ok, %{type: type}} when type != :regular, File.lstat(path)) do
      foreign("the lock is not a file")
    else
      false ->
        case Native.lock(path) do
          {:ok, lock} -> {:ok, lock}
          {:error, :locked} when tries > 1 -> lock_again(path, tries)
          {:error, :locked} -> {:error, Error.new(:locked)}
          {:error, reason} -> storage({:error, reason}, "lock")
        end
    end
  end

  defp lock_again(path, tries) do
    Process.sleep(10)
    lock(path, tries - 1)
  end

  defp owned(files, dir) do
    with {:error, :none} <- read_identity(files, dir),
         :ok <- empty(files, dir),
         {:ok, store_id} <- write_identity(files, dir) do
      {:ok, store_id}
    else
      {:ok, store_id} -> with :ok <- folders(files, dir), do: {:ok, store_id}
      {:error, %Error{} = error} -> {:error, error}
    end
  end

  # What a first start leaves that was killed in the middle is ours; but a segment that holds anything is a store's that
  # has lost its identity, and no place for a new one.
  defp empty(files, dir) do
    with {:ok, names} <- storage(files.list(dir), "list"),
         {:ok, kept} <- if("segments" in names, do: storage(files.list(segments(dir)), "list"), else: {:ok, []}) do
      cond do
        names -- ["lock", "identity.new", "segments", "aside"] != [] -> foreign("no store's, and not empty")
        kept != [] -> foreign("segments without the identity of their store")
        true -> :ok
      end
    end
  end

  defp folders(files, dir) do
    with :ok <- storage(files.make_dir(segments(dir)), "make folder"),
         :ok <- storage(files.make_dir(aside(dir)), "make folder"),
         do: storage(files.sync_dir(dir), "sync folder")
  end

  defp write_identity(files, dir) do
    store_id = :crypto.strong_rand_bytes(16)
    staged = identity(dir) <> ".new"
    files.delete(staged)

    with :ok <- storage(sync_parent(files, dir), "sync parent folder"),
         :ok <- folders(files, dir),
         {:ok, fd} <- storage(files.create(staged), "create"),
         :ok <- storage(files.pwrite(fd, 0, text(store_id)), "write"),
         :ok <- storage(files.datasync(fd), "sync"),
         :ok <- storage(files.close(fd), "close"),
         :ok <- storage(files.rename(staged, identity(dir)), "rename"),
         :ok <- storage(files.sync_dir(dir), "sync folder"),
         do: {:ok, store_id}
  end

  # Whoever made the folder: a start that was killed may have, and never have come to this. A parent that we may not read
  # is not ours, and the folder was there before.
  defp sync_parent(files, dir) do
    with {:error, :eacces} <- files.sync_dir(Path.dirname(dir)), do: :ok
  end

  defp text(store_id) do
    body =
      "EventSeal store\nversion #{@version}\nshards #{Store.shards()}\nid #{Base.encode16(store_id, case: :lower)}\n"

    body <> "check #{:erlang.crc32(body)}\n"
  end

  defp read_identity(files, dir) do
    with {:ok, size} when size < 4096 <- files.size(identity(dir)),
         {:ok, fd} <- files.open(identity(dir), :read) do
      read = files.pread(fd, 0, max(size, 1))
      files.close(fd)
      parse(read)
    else
      {:ok, _large} -> foreign("its identity is not one")
      {:error, :enoent} -> none(files, dir)
      {:error, :not_regular} -> foreign("its identity is not a file")
      {:error, reason} -> storage({:error, reason}, "identity")
    end
  end

  # A store whose identity was removed is not a new one.
  defp none(files, dir) do
    case files.list(dir) do
      {:ok, names} ->
        if Enum.any?(names, &match?({:ok, _}, Journal.generation(&1))),
          do: foreign("its identity is gone"),
          else: {:error, :none}

      {:error, :enoent} ->
        {:error, :none}

      {:error, reason} ->
        storage({:error, reason}, "list")
    end
  end

  defp parse({:ok, <<"EventSeal store\nversion ", rest::binary>> = text}) do
    with {@version, "\nshards 1024\nid " <> <<hex::binary-32, "\ncheck ", _::binary>>} <- Integer.parse(rest),
         {:ok, store_id} <- Base.decode16(hex, case: :lower),
         true <- text == text(store_id) do
      {:ok, store_id}
    else
      {version, _rest} when version > @version ->
        foreign("made by a newer version, #{version}; this one knows #{@version}")

      _other ->
        foreign("its identity is damaged")
    end
  end

  defp parse({:error, reason}), do: storage({:error, reason}, "identity")
  defp parse(_other), do: foreign("its identity is not one")

  defp foreign(detail), do: {:error, Error.new(:foreign, detail: detail)}

  @doc "A file error as an `EventSeal.Error` that says what was being done."
  def storage({:error, reason}, doing), do: {:error, Error.new(:storage, detail: "#{doing}: #{reason}")}
  def storage(ok, _doing), do: ok
end
