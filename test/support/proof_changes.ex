defmodule EventSeal.ProofChanges do
  @moduledoc false
  # What can be done to the text of a proof: `{what was done, text}` each. None of these texts proves anything.

  import Bitwise
  alias EventSeal.ProofText

  @doc "Cut, begun later and changed at every byte."
  def bytes(text) do
    for at <- 0..(byte_size(text) - 1),
        <<before::binary-size(at), byte, rest::binary>> = text,
        {what, changed} <- [
          {"cut", before},
          {"begun", rest},
          {"changed", <<before::binary, bxor(byte, 1), rest::binary>>},
          {"in another case", <<before::binary, bxor(byte, 32), rest::binary>>},
          {"no text", <<before::binary, bxor(byte, 128), rest::binary>>}
        ],
        do: {"#{what} at #{at}", changed}
  end

  @doc "Lines taken out, doubled, exchanged, ended or parted otherwise."
  def lines(text) do
    lines = String.split(text, "\n")

    changes =
      for {line, at} <- Enum.with_index(lines), {what, instead} <- line(line, Enum.at(lines, at + 1)) do
        over = if what == :swapped, do: 2, else: 1

        {"#{what} line #{at + 1}: #{line}",
         Enum.join(Enum.take(lines, at) ++ instead ++ Enum.drop(lines, at + over), "\n")}
      end

    differing(changes ++ whole(text), text)
  end

  defp line(line, next) do
    spaced = if String.contains?(line, " "), do: parted(line), else: []
    swapped = if next, do: [swapped: [next, line]], else: []
    # A signature may stand there twice.
    doubled = if String.starts_with?(line, "—"), do: [], else: [doubled: [line, line]]

    ended =
      for {end_, what} <- [{"\r", :cr}, {" ", :space}, {"\v", :vt}, {"\u2028", :ls}, {"\0", :nul}],
          do: {what, [line <> end_]}

    [removed: [], indented: [" " <> line], empty: ["", line], upcase: [String.upcase(line)]] ++
      spaced ++ swapped ++ doubled ++ ended
  end

  defp parted(line) do
    for with <- ["\t", "  ", ": ", "=", "", "\u00a0", "\n"],
        do: {:parted, [String.replace(line, " ", with, global: false)]}
  end

  defp whole(text) do
    [
      {"crlf", String.replace(text, "\n", "\r\n")},
      {"cr", String.replace(text, "\n", "\r")},
      {"bom", "\uFEFF" <> text},
      {"utf-16", :unicode.characters_to_binary(text, :utf8, {:utf16, :big})},
      {"twice", text <> text},
      {"empty", ""}
    ] ++
      for(more <- ["\n", "\n\n", " ", "x", "\0", "\r\n", "— \n"], do: {"then #{inspect(more)}", text <> more}) ++
      for(more <- ["\n", " ", "\0"], do: {"after #{inspect(more)}", more <> text})
  end

  @doc "Every value changed, and written in another way."
  def values(text) do
    parts = ProofText.split(text)

    fields =
      for {{key, value}, at} <- Enum.with_index(parts.fields), changed <- value(key, value) do
        fields = List.replace_at(parts.fields, at, {key, changed})
        {"#{key} #{changed}", ProofText.join(%{parts | fields: fields})}
      end

    index = for changed <- number(parts.index), do: {"index #{changed}", ProofText.join(%{parts | index: changed})}

    nodes =
      for {node, at} <- Enum.with_index(parts.nodes), changed <- base64(node) do
        {"node #{changed}", ProofText.join(%{parts | nodes: List.replace_at(parts.nodes, at, changed)})}
      end

    differing(fields ++ index ++ nodes ++ checkpoint(parts), text)
  end

  defp checkpoint(parts) do
    [origin, size, root, ""] = String.split(parts.text, "\n")
    ["—", name, signature] = String.split(String.trim_trailing(parts.signatures, "\n"), " ")

    texts =
      for(changed <- text(origin), do: [changed, size, root]) ++
        for(changed <- number(size), do: [origin, changed, root]) ++
        for(changed <- base64(root), do: [origin, size, changed]) ++
        for more <- ["", "more", "\u0085"], do: [origin, size, root, more]

    signatures =
      for(changed <- text(name), do: "— #{changed} #{signature}\n") ++
        for(changed <- base64(signature), do: "— #{name} #{changed}\n") ++
        [
          "- #{name} #{signature}\n",
          "— #{name} #{signature}",
          "— #{signature}\n",
          "",
          "\n",
          "— #{name} #{signature} \n"
        ]

    for(
      lines <- texts,
      do: {"checkpoint #{inspect(lines)}", ProofText.join(%{parts | text: Enum.map_join(lines, &(&1 <> "\n"))})}
    ) ++
      for lines <- signatures, do: {"signature #{lines}", ProofText.join(%{parts | signatures: lines})}
  end

  defp value(key, value) do
    cond do
      key in ~w(flow kind place who) -> text(value)
      key == "body" -> base64(value)
      key == "geo" -> geo(value)
      key == "suite" -> ~w(sha256 blake3 SHA256 sha-256 1 2) ++ ["", value <> " "]
      key in ~w(late closes) -> ~w(true false True TRUE 1 0 yes null) ++ ["", value <> " "]
      key in ~w(nonce euid salt commitment previous before after path) -> hex(value)
      true -> number(value)
    end
  end

  defp geo(value) do
    [latitude, longitude] = String.split(value, " ")

    for(changed <- number(latitude), do: "#{changed} #{longitude}") ++
      for(changed <- number(longitude), do: "#{latitude} #{changed}") ++
      [latitude, "#{latitude}  #{longitude}", "#{latitude},#{longitude}", "#{value} 0"]
  end

  defp number(value) do
    n = String.to_integer(value)
    wide = String.replace(value, ~r/[0-9]/, fn <<digit>> -> <<digit - ?0 + 0xFF10::utf8>> end)

    others = [
      n + 1,
      n - 1,
      -n,
      0,
      n + (1 <<< 32),
      n + (1 <<< 64),
      n - (1 <<< 64),
      1 <<< 31,
      1 <<< 53,
      -(1 <<< 53),
      1 <<< 63
    ]

    Enum.map(others, &Integer.to_string/1) ++
      for(before <- ["+", "0", "00", " ", "-0", "0x", "--"], do: before <> value) ++
      for(behind <- [" ", ".0", "e0", "_0", "L", "\t", "0000000000000000000000000000000"], do: value <> behind) ++
      ["", "-", wide, String.replace(value, ~r/^(-?[0-9])([0-9])/, "\\1_\\2")]
  end

  defp text(value) do
    for(c <- [" ", "\a", "\t", "\u007f", "\u0085", "\u200b", "\ufeff", "\u00a0", "\u2028"], do: value <> c) ++
      [
        " " <> value,
        "",
        "\u00a0",
        String.upcase(value),
        String.reverse(value),
        :unicode.characters_to_nfd_binary(value)
      ] ++
      [value <> <<255>>, value <> <<0xC0, 0xAF>>, value <> <<0xED, 0xA0, 0x80>>, value <> String.duplicate("x", 1025)]
  end

  defp hex(value) do
    {:ok, bytes} = Base.decode16(value, case: :lower)
    odd = binary_part(value, 0, byte_size(value) - 1)

    ["", odd, value <> "0", value <> "00", "0x" <> value, "00" <> value, value <> " ", String.upcase(value), odd <> "g"] ++
      [binary_part(value, 2, byte_size(value) - 2), Base.encode64(bytes), String.duplicate("0", byte_size(value))] ++
      for(bits <- flipped(bytes), do: Base.encode16(bits, case: :lower))
  end

  defp base64(value) do
    {:ok, bytes} = Base.decode64(value)
    bare = String.trim_trailing(value, "=")
    {most, last} = String.split_at(bare, -1)

    [
      "",
      bare,
      value <> "=",
      value <> "====",
      value <> " ",
      " " <> value,
      value <> "\r",
      most <> "\n" <> last,
      most,
      "AAAA" <> value
    ] ++
      [
        String.slice(value, 4..-1//1),
        Base.url_encode64(bytes),
        Base.encode16(bytes, case: :lower),
        "=" <> bare,
        value <> "AAAA"
      ] ++
      if(bare == value,
        do: [],
        else: for(c <- ~w(B C D F H P x 9 + /), do: most <> c <> String.trim_leading(value, bare))
      ) ++
      for(bits <- flipped(bytes), do: Base.encode64(bits))
  end

  # Every bit of a digest; of what is long, one bit of every byte.
  defp flipped(bytes) do
    bits = if byte_size(bytes) > 80, do: [4], else: 0..7

    for at <- 0..(byte_size(bytes) - 1)//1, bit <- bits do
      <<before::binary-size(at), byte, rest::binary>> = bytes
      <<before::binary, bxor(byte, 1 <<< bit), rest::binary>>
    end
  end

  @doc "Each list of digests shortened, lengthened and reordered, and mixed with the others."
  def paths(text) do
    parts = ProofText.split(text)

    nodes =
      for changed <- list(parts.nodes, Base.encode64(<<7::256>>)),
          do: {"log path", ProofText.join(%{parts | nodes: changed})}

    fields =
      for key <- ~w(before after path),
          digests = for({^key, digest} <- parts.fields, do: digest),
          changed <- list(digests, Base.encode16(<<7::256>>, case: :lower)),
          do: {key, ProofText.put(text, key, changed)}

    differing(nodes ++ fields, text)
  end

  defp list(digests, other) do
    indexes = Enum.to_list(0..(length(digests) - 1)//1)

    [[], Enum.reverse(digests), digests ++ [other], [other | digests], digests ++ digests] ++
      for(i <- indexes, do: List.delete_at(digests, i)) ++
      for(i <- indexes, do: List.insert_at(digests, i, Enum.at(digests, i))) ++
      for(i <- indexes, do: List.replace_at(digests, i, other)) ++
      for(i <- indexes, j <- indexes, i < j, do: swap(digests, i, j))
  end

  defp swap(digests, i, j),
    do: digests |> List.replace_at(i, Enum.at(digests, j)) |> List.replace_at(j, Enum.at(digests, i))

  @doc "The proof with parts of another one."
  def mixed(text, other) do
    {parts, others} = {ProofText.split(text), ProofText.split(other)}

    fields =
      for key <- Enum.uniq(for {key, _} <- parts.fields ++ others.fields, do: key) do
        {"#{key} of another", ProofText.put(text, key, for({^key, value} <- others.fields, do: value))}
      end

    rest =
      for key <- [:fields, :index, :nodes, :text, :signatures],
          do: {"#{key} of another", ProofText.join(Map.put(parts, key, others[key]))}

    log = Map.merge(others, Map.take(parts, [:fields]))
    differing(fields ++ rest ++ [{"log proof of another", ProofText.join(log)}], text, other)
  end

  defp differing(changes, text, other \\ nil), do: Enum.reject(changes, fn {_, changed} -> changed in [text, other] end)
end
