defmodule EventSeal.Hash do
  @moduledoc """
  SHA-256 (FIPS 180-4) and BLAKE3, natively: of iodata, of a whole list at once, and step by step.

  An algorithm is one of

    * `:sha256`
    * `:blake3`
    * `{:blake3, :keyed, key}` - BLAKE3 keyed with 32 bytes
    * `{:blake3, :derive_key, context}` - BLAKE3's key derivation under a context string

  Every digest is 32 bytes. Long inputs are hashed on a dirty scheduler, so that no other process waits.
  """

  alias EventSeal.{Event, Native}

  @enforce_keys [:state]
  defstruct [:state]

  @type algorithm :: :sha256 | :blake3 | {:blake3, :keyed, <<_::256>>} | {:blake3, :derive_key, String.t()}
  @type digest :: <<_::256>>
  @opaque t :: %__MODULE__{state: reference}

  @doc """
  The digest of one input.

      iex> EventSeal.Hash.hash(["a", ?b, "c"]) |> Base.encode16(case: :lower)
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
      iex> EventSeal.Hash.hash("", :blake3) |> Base.encode16(case: :lower)
      "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
  """
  @spec hash(iodata, algorithm) :: digest
  def hash(data, algorithm \\ :sha256) do
    [digest] = hash_all([data], algorithm)
    digest
  end

  @doc """
  The digests of many inputs, in their order, in one native call.

      iex> EventSeal.Hash.hash_all(["a", "b"], :blake3) == [EventSeal.Hash.hash("a", :blake3), EventSeal.Hash.hash("b", :blake3)]
      true
  """
  @spec hash_all([iodata], algorithm) :: [digest]
  def hash_all(list, algorithm \\ :sha256) when is_list(list) do
    inputs = Enum.map(list, &IO.iodata_to_binary/1)
    work = Enum.reduce(inputs, 0, fn input, sum -> sum + 128 + byte_size(input) end)
    Native.hash_all(check(algorithm), inputs, work)
  end

  @doc """
  Begins a digest that is fed step by step. Each step returns a new state; an older one can still be used.

      iex> alias EventSeal.Hash
      iex> Hash.new(:sha256) |> Hash.update("a") |> Hash.update(["b", "c"]) |> Hash.final() == Hash.hash("abc")
      true
  """
  @spec new(algorithm) :: t
  def new(algorithm \\ :sha256), do: %__MODULE__{state: Native.hash_new(check(algorithm))}

  @doc "Feeds iodata."
  @spec update(t, iodata) :: t
  def update(%__MODULE__{state: state}, data) do
    input = IO.iodata_to_binary(data)
    %__MODULE__{state: Native.hash_update(state, input, byte_size(input))}
  end

  @doc "The digest of all that was fed."
  @spec final(t) :: digest
  def final(%__MODULE__{state: state}), do: Native.hash_final(state)

  defp check(algorithm) when algorithm in [:sha256, :blake3], do: algorithm
  defp check({:blake3, :keyed, <<_::256>>} = algorithm), do: algorithm

  defp check({:blake3, :derive_key, context} = algorithm) when is_binary(context) do
    if String.valid?(context), do: algorithm, else: raise(ArgumentError, "a derive_key context must be valid UTF-8")
  end

  defp check({:blake3, :keyed, key}),
    do: raise(ArgumentError, "a BLAKE3 key must be a binary of 32 bytes, got #{Event.type(key)}")

  defp check(other) do
    raise ArgumentError,
          "an algorithm must be :sha256, :blake3, {:blake3, :keyed, key} or {:blake3, :derive_key, context}, got " <>
            Event.type(other)
  end
end
