defmodule EventSeal.Postgres.Value do
  @moduledoc """
  Values in PostgreSQL's binary form, by their types.

  | type | Elixir |
  | --- | --- |
  | `:bool` | `true`, `false` |
  | `:int2`, `:int4`, `:int8`, `:oid` | integers in their ranges |
  | `:float8` | a float, `:nan`, `:infinity`, `:"-infinity"` |
  | `:bytea`, `:text`, `:varchar`, `:name`, `:json` | a binary |
  | `:uuid` | 16 bytes |
  | `:timestamptz` | µs since the UNIX epoch, `:infinity`, `:"-infinity"` |
  | `[type]` | a list, of one dimension |
  | `:void` | nil |

  `nil` is NULL everywhere. What is read of a type that is not known comes as the bytes that the server sent.
  """

  @types %{
    bool: {16, 1000},
    bytea: {17, 1001},
    name: {19, 1003},
    int8: {20, 1016},
    int2: {21, 1005},
    int4: {23, 1007},
    text: {25, 1009},
    oid: {26, 1028},
    json: {114, 199},
    float8: {701, 1022},
    varchar: {1043, 1015},
    timestamptz: {1184, 1185},
    uuid: {2950, 2951}
  }

  @by_oid Map.merge(
            for({type, {oid, _array}} <- @types, into: %{2278 => :void}, do: {oid, type}),
            for({type, {_oid, array}} <- @types, into: %{}, do: {array, [type]})
          )

  @bytes [:bytea, :text, :varchar, :name, :json]
  @integers %{int2: 16, int4: 32, int8: 64}
  # PostgreSQL counts from 2000-01-01.
  @epoch 946_684_800_000_000

  @type scalar ::
          :bool
          | :bytea
          | :name
          | :int8
          | :int2
          | :int4
          | :text
          | :oid
          | :json
          | :float8
          | :varchar
          | :timestamptz
          | :uuid
  @type type :: scalar | [scalar]

  @doc "The number by which the server knows a type."
  @spec oid(type) :: pos_integer
  def oid([type]), do: @types |> Map.fetch!(type) |> elem(1)
  def oid(type), do: @types |> Map.fetch!(type) |> elem(0)

  @doc "The type of a number, or the number itself if it is not known."
  @spec type(non_neg_integer) :: type | :void | non_neg_integer
  def type(oid), do: Map.get(@by_oid, oid, oid)

  @doc "A value with its length in front, as Bind and COPY have it. Raises `ArgumentError` for one that is not of the type."
  @spec encode(type, term) :: iodata
  def encode(_type, nil), do: <<-1::32>>

  # Numbers come by the thousand.
  def encode([type], values) when is_map_key(@integers, type) and is_list(values) do
    elements = for value <- values, into: "", do: number(type, value)
    array(type, length(values), nil in values, byte_size(elements), elements)
  end

  def encode([type], values) when is_list(values) do
    {elements, {count, nulls?, size}} = Enum.map_reduce(values, {0, false, 0}, &element(type, &1, &2))
    array(type, count, nulls?, size, elements)
  end

  def encode(type, value) do
    bytes = scalar(type, value)
    [<<byte_size(bytes)::32>> | bytes]
  end

  defp array(type, 0, _nulls?, 0, _elements), do: <<12::32, 0::32, 0::32, oid(type)::32>>

  defp array(type, count, nulls?, size, elements) do
    nulls = if nulls?, do: 1, else: 0
    [<<20 + size::32, 1::32, nulls::32, oid(type)::32, count::32, 1::32>> | elements]
  end

  defp element(_type, nil, {count, _nulls?, size}), do: {<<-1::32>>, {count + 1, true, size + 4}}

  defp element(type, value, {count, nulls?, size}) do
    bytes = scalar(type, value)
    {[<<byte_size(bytes)::32>> | bytes], {count + 1, nulls?, size + 4 + byte_size(bytes)}}
  end

  defp number(:int8, value) when value in -0x8000_0000_0000_0000..0x7FFF_FFFF_FFFF_FFFF, do: <<8::32, value::64>>
  defp number(:int4, value) when value in -0x8000_0000..0x7FFF_FFFF, do: <<4::32, value::32>>
  defp number(type, value), do: IO.iodata_to_binary(encode(type, value))

  defp scalar(type, value) when type in @bytes and is_binary(value), do: value
  defp scalar(:uuid, <<_::binary-16>> = value), do: value
  defp scalar(:bool, true), do: <<1>>
  defp scalar(:bool, false), do: <<0>>
  defp scalar(:oid, value) when is_integer(value) and value in 0..0xFFFF_FFFF, do: <<value::32>>
  defp scalar(:float8, value) when is_float(value) or is_integer(value), do: <<value::float-64>>
  defp scalar(:float8, :nan), do: <<0x7FF8::16, 0::48>>
  defp scalar(:float8, :infinity), do: <<0x7FF0::16, 0::48>>
  defp scalar(:float8, :"-infinity"), do: <<0xFFF0::16, 0::48>>
  defp scalar(:timestamptz, :infinity), do: <<0x7FFF_FFFF_FFFF_FFFF::64>>
  defp scalar(:timestamptz, :"-infinity"), do: <<0x8000_0000_0000_0000::64>>
  defp scalar(:timestamptz, value) when is_integer(value), do: integer(:timestamptz, value - @epoch, 64)

  defp scalar(type, value) when is_map_key(@integers, type) and is_integer(value),
    do: integer(type, value, Map.fetch!(@integers, type))

  # The value itself may be a patient's.
  defp scalar(type, _value), do: raise(ArgumentError, "a parameter is not of its type, #{inspect(type)}")

  defp integer(type, value, bits) do
    case <<value::signed-size(bits)>> do
      <<^value::signed-size(bits)>> = bytes -> bytes
      _cut -> raise ArgumentError, "a parameter is outside the range of its type, #{inspect(type)}"
    end
  end

  @doc "A value from its bytes, `:error` if they are none of the type. Binaries are parts of what was read."
  @spec decode(type | :void | non_neg_integer, binary) :: {:ok, term} | :error
  def decode(type, value) when type in @bytes, do: {:ok, value}
  def decode(:int8, <<value::signed-64>>), do: {:ok, value}
  def decode(:int4, <<value::signed-32>>), do: {:ok, value}
  def decode(:int2, <<value::signed-16>>), do: {:ok, value}
  def decode(:bool, <<1>>), do: {:ok, true}
  def decode(:bool, <<0>>), do: {:ok, false}
  def decode(:oid, <<value::32>>), do: {:ok, value}
  def decode(:uuid, <<_::binary-16>> = value), do: {:ok, value}
  def decode(:void, <<>>), do: {:ok, nil}
  def decode(:float8, <<value::float-64>>), do: {:ok, value}
  def decode(:float8, <<0x7FF0::16, 0::48>>), do: {:ok, :infinity}
  def decode(:float8, <<0xFFF0::16, 0::48>>), do: {:ok, :"-infinity"}
  def decode(:float8, <<_::64>>), do: {:ok, :nan}
  def decode(:timestamptz, <<0x7FFF_FFFF_FFFF_FFFF::64>>), do: {:ok, :infinity}
  def decode(:timestamptz, <<0x8000_0000_0000_0000::64>>), do: {:ok, :"-infinity"}
  def decode(:timestamptz, <<value::signed-64>>), do: {:ok, value + @epoch}
  def decode([type], bytes), do: array(type, oid(type), bytes)
  def decode(unknown, bytes) when is_integer(unknown), do: {:ok, bytes}
  def decode(_type, _bytes), do: :error

  defp array(_type, oid, <<0::32, _flags::32, oid::32>>), do: {:ok, []}

  defp array(type, oid, <<1::32, _flags::32, oid::32, count::32, _from::32, bytes::binary>>),
    do: elements(type, count, bytes, [])

  defp array(_type, _oid, _bytes), do: :error

  defp elements(_type, 0, "", values), do: {:ok, Enum.reverse(values)}
  defp elements(_type, 0, _rest, _values), do: :error

  defp elements(type, count, <<-1::signed-32, rest::binary>>, values),
    do: elements(type, count - 1, rest, [nil | values])

  defp elements(type, count, <<size::32, bytes::binary-size(size), rest::binary>>, values) do
    with {:ok, value} <- decode(type, bytes), do: elements(type, count - 1, rest, [value | values])
  end

  defp elements(_type, _count, _short, _values), do: :error

  @doc "The values of a row, `{:ok, [value]}`; `:error` if it is not a row of these types."
  @spec row([type | :void | non_neg_integer], binary) :: {:ok, [term]} | :error
  def row(types, <<count::16, bytes::binary>>) when length(types) == count, do: fields(types, bytes, [])
  def row(_types, _bytes), do: :error

  defp fields([], "", values), do: {:ok, Enum.reverse(values)}
  defp fields([_type | types], <<-1::signed-32, rest::binary>>, values), do: fields(types, rest, [nil | values])

  defp fields([type | types], <<size::32, bytes::binary-size(size), rest::binary>>, values) do
    with {:ok, value} <- decode(type, bytes), do: fields(types, rest, [value | values])
  end

  defp fields(_types, _bytes, _values), do: :error
end
