defmodule EventSeal.Stamp.Der do
  @moduledoc false
  # A strict reader of DER (X.690), and a writer, for the few structures of time stamps that OTP does not decode. What is
  # written in another way than DER writes it is refused: raised as `:malformed`.

  import Bitwise
  alias EventSeal.Error

  # Longer ones, whose numbers would be as long, name nothing.
  @longest_oid 64

  @typedoc "A value: its tag, its contents, and all its bytes."
  @type value :: {tag :: byte, contents :: binary, whole :: binary}

  @doc "The values that stand in these bytes, one behind the other."
  @spec all!(binary) :: [value]
  def all!(""), do: []

  def all!(bytes) do
    {value, rest} = next!(bytes)
    [value | all!(rest)]
  end

  @doc "The contents of the one value of this tag that these bytes are."
  @spec one!(binary, byte) :: binary
  def one!(bytes, tag) do
    case next!(bytes) do
      {{^tag, contents, _whole}, ""} -> contents
      _other -> malformed!("another value")
    end
  end

  # Tags of more than a byte stand in nothing that is read here.
  defp next!(<<tag, rest::binary>> = bytes) when band(tag, 0x1F) != 0x1F do
    {length, front} = length!(rest)

    case rest do
      <<_::binary-size(front), contents::binary-size(length), rest::binary>> ->
        {{tag, contents, binary_part(bytes, 0, 1 + front + length)}, rest}

      _short ->
        malformed!("a value that ends too soon")
    end
  end

  defp next!(_bytes), do: malformed!("no value")

  defp length!(<<0::1, length::7, _::binary>>), do: {length, 1}
  defp length!(<<0x81, length, _::binary>>) when length > 0x7F, do: {length, 2}
  defp length!(<<0x82, length::16, _::binary>>) when length > 0xFF, do: {length, 3}
  defp length!(<<0x83, length::24, _::binary>>) when length > 0xFFFF, do: {length, 4}
  defp length!(_bytes), do: malformed!("a length")

  @doc "The integer that these contents are."
  @spec integer!(binary) :: integer
  def integer!(<<0, next, _::binary>>) when next < 0x80, do: malformed!("an integer")
  def integer!(<<0xFF, next, _::binary>>) when next >= 0x80, do: malformed!("an integer")
  def integer!(""), do: malformed!("an integer")

  def integer!(contents) do
    size = bit_size(contents)
    <<integer::signed-size(size)>> = contents
    integer
  end

  @doc "The object identifier that these contents are, with dots."
  @spec oid!(binary) :: String.t()
  def oid!(contents) when byte_size(contents) > @longest_oid, do: malformed!("an object identifier")

  def oid!(contents) do
    [first | rest] = arcs!(contents, 0, [])
    top = min(div(first, 40), 2)
    Enum.join([top, first - 40 * top | rest], ".")
  end

  defp arcs!("", 0, [_ | _] = arcs), do: Enum.reverse(arcs)
  defp arcs!(<<0x80, _::binary>>, 0, _arcs), do: malformed!("an object identifier")
  defp arcs!(<<1::1, part::7, rest::binary>>, arc, arcs), do: arcs!(rest, arc * 128 + part, arcs)
  defp arcs!(<<0::1, part::7, rest::binary>>, arc, arcs), do: arcs!(rest, 0, [arc * 128 + part | arcs])
  defp arcs!(_contents, _arc, _arcs), do: malformed!("an object identifier")

  @doc "The time that these contents of a GeneralizedTime are, in µs since the UNIX epoch; parts of one count as a whole one."
  @spec time!(binary) :: integer
  def time!(contents) do
    form = ~r/\A(\d{8})(\d{6})(?:\.(\d*[1-9]))?Z\z/

    with [date, time | fraction] <- Regex.run(form, contents, capture: :all_but_first),
         [year, month, day] <- numbers(date, [4, 2, 2]),
         [hour, minute, second] <- numbers(time, [2, 2, 2]),
         {:ok, at} <- NaiveDateTime.new(year, month, day, hour, minute, second) do
      at
      |> DateTime.from_naive!("Etc/UTC")
      |> DateTime.to_unix(:microsecond)
      |> Kernel.+(microseconds(Enum.join(fraction)))
    else
      _other -> malformed!("a time")
    end
  end

  defp numbers("", []), do: []

  defp numbers(digits, [count | counts]) do
    {number, rest} = String.split_at(digits, count)
    [String.to_integer(number) | numbers(rest, counts)]
  end

  defp microseconds(fraction) do
    {digits, beyond} = fraction |> String.pad_trailing(6, "0") |> String.split_at(6)
    String.to_integer(digits) + if(beyond == "", do: 0, else: 1)
  end

  @doc "A value."
  @spec value(byte, iodata) :: binary
  def value(tag, contents) do
    contents = IO.iodata_to_binary(contents)
    <<tag, size(byte_size(contents))::binary, contents::binary>>
  end

  defp size(size) when size < 0x80, do: <<size>>
  defp size(size), do: <<0x80 + byte_size(:binary.encode_unsigned(size)), :binary.encode_unsigned(size)::binary>>

  @doc "An integer of 0 or more."
  @spec integer(non_neg_integer) :: binary
  def integer(integer) do
    bytes = :binary.encode_unsigned(integer)
    value(0x02, if(:binary.first(bytes) >= 0x80, do: <<0, bytes::binary>>, else: bytes))
  end

  @doc "The contents of an object identifier that is written with dots; `:error` if it is none."
  @spec oid(String.t()) :: {:ok, binary} | :error
  def oid(text) do
    with true <- text =~ ~r/\A[0-2](\.(0|[1-9]\d{0,38})){2,31}\z/,
         [top, second | rest] <- text |> String.split(".") |> Enum.map(&String.to_integer/1),
         true <- top == 2 or second < 40 do
      {:ok, IO.iodata_to_binary(Enum.map([40 * top + second | rest], &arc/1))}
    else
      _other -> :error
    end
  end

  defp arc(arc) when arc < 0x80, do: <<arc>>
  defp arc(arc), do: [higher(div(arc, 128)), rem(arc, 128)]

  defp higher(0), do: []
  defp higher(arc), do: [higher(div(arc, 128)), 0x80 + rem(arc, 128)]

  @doc false
  @spec malformed!(String.t()) :: no_return
  def malformed!(what), do: raise(Error.new(:malformed, detail: "no time stamp: #{what}"))
end
