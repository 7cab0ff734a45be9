defmodule EventSeal.OracleTest do
  use ExUnit.Case, async: true

  alias EventSeal.Oracle
  alias EventSeal.Oracle.{Blake3, Json}

  # From BLAKE3's own test vectors: length, then the first 32 bytes of hash, keyed hash and derived key.
  @blake3 [
    {0, ~w(af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262
        92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26
        2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d)},
    {1, ~w(2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213
        6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b
        b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c)},
    {1023, ~w(10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11
        c951ecdf03288d0fcc96ee3413563d8a6d3589547f2c2fb36d9786470f1b9d6e
        74a16c1c3d44368a86e1ca6df64be6a2f64cce8f09220787450722d85725dea5)},
    {1024, ~w(42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7
        75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4
        7356cd7720d5b66b6d0697eb3177d9f8d73a4a5c5e968896eb6a689684302706)},
    {1025, ~w(d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444
        357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69
        effaa245f065fbf82ac186839a249707c3bddf6d3fdda22d1b95a3c970379bcb)},
    {2048, ~w(e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a
        879cf1fa2ea0e79126cb1063617a05b6ad9d0b696d0d757cf053439f60a99dd1
        7b2945cb4fef70885cc5d78a87bf6f6207dd901ff239201351ffac04e1088a23)},
    {2049, ~w(5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030
        9f29700902f7c86e514ddc4df1e3049f258b2472b6dd5267f61bf13983b78dd5
        2ea477c5515cc3dd606512ee72bb3e0e758cfae7232826f35fb98ca1bcbdf273)},
    {3073, ~w(7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3
        68dede9bef00ba89e43f31a6825f4cf433389fedae75c04ee9f0cf16a427c95a
        72613c9ec9ff7e40f8f5c173784c532ad852e827dba2bf85b2ab4b76f7079081)},
    {5121, ~w(628bd2cb2004694adaab7bbd778a25df25c47b9d4155a55f8fbd79f2fe154cff
        6ccf1c34753e7a044db80798ecd0782a8f76f33563accaddbfbb2e0ea4b2d024
        b07f01e518e702f7ccb44a267e9e112d403a7b3f4883a47ffbed4b48339b3c34)}
  ]

  test "BLAKE3 gives the values of its test vectors" do
    for {length, expected} <- @blake3 do
      input = for i <- 0..length, i < length, into: <<>>, do: <<rem(i, 251)>>

      found = [
        Blake3.hash(input),
        Blake3.keyed("whats the Elvish word for friend", input),
        Blake3.derive_key("BLAKE3 2019-12-27 16:29:52 test vectors context", input)
      ]

      assert Enum.map(found, &Base.encode16(&1, case: :lower)) == expected
    end
  end

  test "the log's tree is RFC 6962's" do
    assert Base.encode16(Oracle.log_root([]), case: :lower) ==
             "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    [a, b, c] = for leaf <- ["a", "b", "c"], do: :crypto.hash(:sha256, <<0, leaf::binary>>)
    left = :crypto.hash(:sha256, <<1, a::binary, b::binary>>)
    assert Oracle.log_root(["a", "b", "c"]) == :crypto.hash(:sha256, <<1, left::binary, c::binary>>)
  end

  test "JSON is read as RFC 8259 has it" do
    assert Json.decode!(~S( {"a":[1,-2,1.5,1e3],"b":{},"c":[],"d":null,"e":true,"f":"\u00e9\ud83d\ude00\n\"/"} )) ==
             %{"a" => [1, -2, 1.5, 1.0e3], "b" => %{}, "c" => [], "d" => nil, "e" => true, "f" => "é😀\n\"/"}

    for bad <- ["", "1 2", "01", "[1,]", ~S({"a":1,"a":1}), "\"\n\"", ~S("\ud83d"), <<?", 0xFF, ?">>, "nul", "{1:2}"] do
      assert catch_error(Json.decode!(bad)), bad
    end
  end
end
