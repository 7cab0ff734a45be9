defmodule EventSeal.Oracle.Json do
  @moduledoc """
  RFC 8259 for tests: OTP 25 has no JSON. Strict: a doubled key, a lone surrogate, bad UTF-8 or anything after the value
  raises. Objects become maps, numbers with a fraction or an exponent floats, `null` is `nil`.
  """

  @spec decode!(binary) :: term
  def decode!(text) do
    {value, rest} = text |> space() |> value()
    if space(rest) != "", do: raise(ArgumentError, "something stands after the value")
    value
  end

  defp space(<<c, rest::binary>>) when c in ~c" \t\n\r", do: space(rest)
  defp space(rest), do: rest

  defp value("null" <> rest), do: {nil, rest}
  defp value("true" <> rest), do: {true, rest}
  defp value("false" <> rest), do: {false, rest}
  defp value("\"" <> rest), do: string(rest, [])
  defp value("[" <> rest), do: rest |> space() |> array()
  defp value("{" <> rest), do: rest |> space() |> object()
  defp value(rest), do: number(rest)

  defp array("]" <> rest), do: {[], rest}
  defp array(rest), do: items(rest, [])

  defp items(rest, acc) do
    {value, rest} = value(rest)

    case space(rest) do
      "," <> rest -> rest |> space() |> items([value | acc])
      "]" <> rest -> {Enum.reverse([value | acc]), rest}
    end
  end

  defp object("}" <> rest), do: {%{}, rest}
  defp object(rest), do: members(rest, %{})

  defp members("\"" <> rest, acc) do
    {key, rest} = string(rest, [])
    if is_map_key(acc, key), do: raise(ArgumentError, "a key is doubled")
    ":" <> rest = space(rest)
    {value, rest} = rest |> space() |> value()
    acc = Map.put(acc, key, value)

    case space(rest) do
      "," <> rest -> rest |> space() |> members(acc)
      "}" <> rest -> {acc, rest}
    end
  end

  defp string("\"" <> rest, acc), do: {acc |> Enum.reverse() |> IO.iodata_to_binary(), rest}
  defp string("\\u" <> rest, acc), do: unicode(rest, acc)

  defp string(<<?\\, c, rest::binary>>, acc) do
    plain = %{?" => ?", ?\\ => ?\\, ?/ => ?/, ?b => ?\b, ?f => ?\f, ?n => ?\n, ?r => ?\r, ?t => ?\t}
    string(rest, [Map.fetch!(plain, c) | acc])
  end

  defp string(<<c::utf8, rest::binary>>, acc) when c >= 0x20, do: string(rest, [<<c::utf8>> | acc])

  defp unicode(<<high::binary-size(4), "\\u", low::binary-size(4), rest::binary>>, acc)
       when binary_part(high, 0, 1) in ["d", "D"] do
    <<c::utf16>> = <<String.to_integer(high, 16)::16, String.to_integer(low, 16)::16>>
    string(rest, [<<c::utf8>> | acc])
  end

  defp unicode(<<hex::binary-size(4), rest::binary>>, acc),
    do: string(rest, [<<String.to_integer(hex, 16)::utf8>> | acc])

  defp number(text) do
    [number] = Regex.run(~r/\A-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/, text)
    rest = binary_part(text, byte_size(number), byte_size(text) - byte_size(number))
    {parse(number), rest}
  end

  defp parse(number) do
    if number =~ ~r/[.eE]/, do: number |> Float.parse() |> elem(0), else: String.to_integer(number)
  end
end
