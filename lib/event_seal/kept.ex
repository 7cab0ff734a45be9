defmodule EventSeal.Kept do
  @moduledoc """
  What a verification store keeps of a block: its header, seams, event hashes and ids, without frames, salts and bodies; so
  it names the flow, and nobody's time, place, person or kind. FORMAT.md, "Kept part".
  """

  alias EventSeal.{Error, Native}

  @type part :: binary
  @typedoc "Where a block lies: in memory, or in a file."
  @type place :: {:binary, binary} | {:file, Path.t(), non_neg_integer, pos_integer}
  @typedoc "What does not hold, at which position, what is recorded and what it should be."
  @type flaw :: {atom, non_neg_integer, EventSeal.Fault.datum(), EventSeal.Fault.datum()}
  @typedoc """
  Which of two stores is wrong, as far as it shows in the parts alone: the `:events`' store, the `:verification` store,
  `:both`; or `:either`, where each holds in itself.
  """
  @type side :: :events | :verification | :both | :either

  @doc "The part of the block that lies there, as it is recorded, right or wrong; frames and bodies are not read."
  @spec cut(place) :: {:ok, part} | {:error, Error.t()}
  def cut(place) do
    case Native.kept_cut(place) do
      {:error, {:refused, :io}} -> {:error, Error.new(:storage, detail: "a block cannot be read")}
      cut -> Error.native(cut)
    end
  end

  @doc "Of pairs of a block's place and a part's place, whether it is that block's part."
  @spec same?([{place, place}]) :: [boolean]
  def same?(pairs), do: Native.kept_same(pairs)

  @doc """
  What a part says: `:suite`, `:flow`, `:genesis` (the record), `:digest` (G), `:height`, `:first`, `:count`, `:closes`,
  `:when_max`, `:hash`, `:hashes` (event hashes, joined).
  """
  @spec read(part) :: {:ok, map} | {:error, Error.t()}
  def read(part) do
    with {:ok, {{suite, flow, genesis, digest}, {height, first, count, closes, when_max}, hash, hashes}} <-
           Error.native(Native.kept_read(part)) do
      placed = %{height: height, first: first, count: count, closes: closes, when_max: when_max}

      {:ok,
       Map.merge(placed, %{suite: suite, flow: flow, genesis: genesis, digest: digest, hash: hash, hashes: hashes})}
    end
  end

  @doc "What does not hold in a part, at this height and behind the part of the block before (nil: not known)."
  @spec flaw(part, non_neg_integer, part | nil) :: {:ok, flaw | nil} | {:error, Error.t()}
  def flaw(part, height, before), do: Error.native(Native.kept_flaw(part, height, before))

  @doc """
  Where the part that the events' store has differs from the one that was kept, and which of them is wrong; nil if they are
  the same. `before` is the part of the block before, where both agree on it.
  """
  @spec compare(part, part, non_neg_integer, part | nil) :: {flaw, side} | nil
  def compare(same, same, _height, _before), do: nil
  def compare(events, kept, height, before), do: Native.kept_compare(events, kept, height, before)

  @doc "The block with what the part has of it in its place. Whether it holds then, verifying it tells."
  @spec mend(part, block :: binary) :: {:ok, binary} | {:error, Error.t()}
  def mend(part, block), do: Error.native(Native.kept_mend(part, block))
end
