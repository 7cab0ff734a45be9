defmodule EventSeal.Export.FileName do
  @moduledoc false
  # A flow's id is never a file name as it stands: it may hold `../`, differ from another only in case, or be longer
  # than the 255 bytes that file systems allow.

  @kept 180
  # Names of devices on Windows, whatever the suffix.
  @devices ~w(con prn aux nul) ++ for(name <- ~w(com lpt), digit <- 0..9, do: "#{name}#{digit}")

  @doc """
  The file's name for a flow: a–z, 0–9, `-` and `_` as they are, every other byte as `%xx`. Two flows never share one,
  also where case does not count. What gets too long is cut and ends in `~` and the id's SHA-256.

      iex> EventSeal.Export.FileName.of("patient/42")
      "patient%2f42.jsonl"
      iex> EventSeal.Export.FileName.of("../Å")
      "%2e%2e%2f%c3%85.jsonl"
  """
  @spec of(String.t(), String.t()) :: String.t()
  def of(flow, suffix \\ ".jsonl") do
    case encode(flow) do
      name when byte_size(name) + byte_size(suffix) > 255 ->
        binary_part(name, 0, @kept) <> "~" <> digest(flow) <> suffix

      <<first, rest::binary>> = name when name in @devices ->
        hex(first) <> rest <> suffix

      name ->
        name <> suffix
    end
  end

  defp encode(flow), do: for(<<byte <- flow>>, into: "", do: byte(byte))

  defp byte(byte) when byte in ?a..?z or byte in ?0..?9 or byte in [?-, ?_], do: <<byte>>
  defp byte(byte), do: hex(byte)

  defp hex(byte), do: "%" <> Base.encode16(<<byte>>, case: :lower)
  defp digest(flow), do: Base.encode16(:crypto.hash(:sha256, flow), case: :lower)
end
