defmodule EventSeal.Postgres.Message do
  @moduledoc false
  # The messages of protocol 3.0 as bytes and as terms (PostgreSQL's manual, "Message Formats"). No state.

  @protocol 196_608
  @ssl 80_877_103
  @cancel 80_877_102

  # Longest message: before a session begins, what no honest server exceeds; in one, what PostgreSQL itself can send.
  @longest_greeting 65_536
  @longest 0x4000_0000

  @type t ::
          {:auth, non_neg_integer, binary}
          | {:key, pid :: non_neg_integer, secret :: binary}
          | {:parameter, String.t(), String.t()}
          | {:ready, :idle | :transaction | :failed}
          | {:error | :notice, [{byte, binary}]}
          | {:columns, [oid :: non_neg_integer]}
          | {:row, binary}
          | {:complete, tag :: binary}
          | {:copy_in | :copy_out, :binary | :text}
          | {:copy_data, binary}
          | :parsed
          | :bound
          | :closed
          | :no_data
          | :parameters
          | :empty
          | :suspended
          | :copy_done
          | :notification
          | {:version, non_neg_integer}

  # To the server

  def ssl_request, do: <<8::32, @ssl::32>>
  def cancel(pid, secret), do: <<12 + byte_size(secret)::32, @cancel::32, pid::32, secret::binary>>

  def startup(parameters) do
    body = [<<@protocol::32>>, for({name, value} <- parameters, do: [name, 0, value, 0]), 0]
    [<<:erlang.iolist_size(body) + 4::32>> | body]
  end

  def sasl_first(mechanism, data), do: pack(?p, [mechanism, 0, <<byte_size(data)::32>>, data])
  def sasl(data), do: pack(?p, data)
  def query(sql), do: pack(?Q, [sql, 0])

  def parse(name, sql, oids), do: pack(?P, [name, 0, sql, 0, <<length(oids)::16>> | for(oid <- oids, do: <<oid::32>>)])
  def describe(name), do: pack(?D, [?S, name, 0])

  @doc "Binds parameters (all binary, encoded with their count in front) to the unnamed portal; results come binary."
  def bind(name, parameters), do: pack(?B, [0, name, 0, <<1::16, 1::16>>, parameters, <<1::16, 1::16>>])
  def execute, do: pack(?E, [0, <<0::32>>])
  def sync, do: pack(?S, [])
  def copy_data(data), do: pack(?d, data)
  def copy_done, do: pack(?c, [])
  def terminate, do: pack(?X, [])

  defp pack(tag, body), do: [tag, <<:erlang.iolist_size(body) + 4::32>> | body]

  # From the server

  @doc "The first message of what was read: `{:ok, message, rest}`, `{:more, bytes that it takes}`, or `:nonsense`."
  @spec decode(binary, :greeting | :session) :: {:ok, t, binary} | {:more, pos_integer} | :nonsense
  def decode(<<tag, length::32, rest::binary>>, phase) do
    longest = if phase == :greeting, do: @longest_greeting, else: @longest

    if length < 4 or length > longest or not known?(tag), do: :nonsense, else: body(tag, length - 4, rest)
  end

  def decode(<<tag, _::binary>>, _phase), do: if(known?(tag), do: {:more, 5}, else: :nonsense)
  def decode("", _phase), do: {:more, 5}

  defp known?(tag), do: tag in 'RKSZENTDCGHdc123ntIsAv'

  defp body(tag, length, rest) do
    case rest do
      <<body::binary-size(length), rest::binary>> ->
        with message when message != :nonsense <- message(tag, body), do: {:ok, message, rest}

      _short ->
        {:more, length + 5}
    end
  end

  defp message(?D, row), do: {:row, row}
  defp message(?d, data), do: {:copy_data, data}
  defp message(?R, <<kind::32, data::binary>>), do: {:auth, kind, data}
  defp message(?K, <<pid::32, secret::binary>>) when secret != "", do: {:key, pid, secret}
  defp message(?Z, "I"), do: {:ready, :idle}
  defp message(?Z, "T"), do: {:ready, :transaction}
  defp message(?Z, "E"), do: {:ready, :failed}
  defp message(?E, body), do: fields(:error, body, [])
  defp message(?N, body), do: fields(:notice, body, [])
  defp message(?1, ""), do: :parsed
  defp message(?2, ""), do: :bound
  defp message(?3, ""), do: :closed
  defp message(?n, ""), do: :no_data
  defp message(?t, _oids), do: :parameters
  defp message(?I, ""), do: :empty
  defp message(?s, ""), do: :suspended
  defp message(?c, ""), do: :copy_done
  defp message(?A, _body), do: :notification
  defp message(?v, <<version::32, _::binary>>), do: {:version, version}
  defp message(?G, <<format, _::binary>>) when format in [0, 1], do: {:copy_in, format(format)}
  defp message(?H, <<format, _::binary>>) when format in [0, 1], do: {:copy_out, format(format)}
  defp message(?T, <<count::16, body::binary>>), do: columns(count, body, [])

  defp message(?C, body) do
    case :binary.split(body, <<0>>) do
      [tag, ""] -> {:complete, tag}
      _other -> :nonsense
    end
  end

  defp message(?S, body) do
    case :binary.split(body, <<0>>, [:global]) do
      [name, value, ""] -> {:parameter, name, value}
      _other -> :nonsense
    end
  end

  defp message(_tag, _body), do: :nonsense

  defp format(0), do: :text
  defp format(1), do: :binary

  defp fields(kind, <<0>>, fields), do: {kind, Enum.reverse(fields)}

  defp fields(kind, <<type, rest::binary>>, fields) when type != 0 do
    case :binary.split(rest, <<0>>) do
      [text, rest] -> fields(kind, rest, [{type, text} | fields])
      _unended -> :nonsense
    end
  end

  defp fields(_kind, _body, _fields), do: :nonsense

  defp columns(0, "", oids), do: {:columns, Enum.reverse(oids)}

  defp columns(count, body, oids) when count > 0 do
    case :binary.split(body, <<0>>) do
      [_name, <<_table::32, _column::16, oid::32, _size::16, _modifier::32, _format::16, rest::binary>>] ->
        columns(count - 1, rest, [oid | oids])

      _short ->
        :nonsense
    end
  end

  defp columns(_count, _body, _oids), do: :nonsense
end
