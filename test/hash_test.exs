defmodule EventSeal.HashTest do
  use ExUnit.Case, async: true
  doctest EventSeal.Hash

  alias EventSeal.Hash

  # 0, 1, n−1, n, n+1 around every block, chunk and scheduling boundary.
  @lengths [
    0,
    1,
    55,
    56,
    57,
    63,
    64,
    65,
    119,
    120,
    127,
    128,
    129,
    1023,
    1024,
    1025,
    2047,
    2048,
    2049,
    131_071,
    131_072,
    131_073
  ]

  test "SHA-256 equals OTP's at every length" do
    inputs = Enum.map(@lengths, &input/1)
    expected = Enum.map(inputs, &:crypto.hash(:sha256, &1))
    assert Enum.map(inputs, &Hash.hash/1) == expected
    assert Hash.hash_all(inputs) == expected
  end

  test "BLAKE3 equals its published vectors" do
    # https://github.com/BLAKE3-team/BLAKE3/blob/master/test_vectors/test_vectors.json: input bytes count 0 … 250.
    for {length, digest} <- [
          {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
          {1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"},
          {1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"},
          {1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"}
        ] do
      input = for i <- 0..(length - 1)//1, into: <<>>, do: <<rem(i, 251)>>
      assert Base.encode16(Hash.hash(input, :blake3), case: :lower) == digest
    end
  end

  test "step by step is the same as at once, whatever the steps" do
    for algorithm <- [
          :sha256,
          :blake3,
          {:blake3, :keyed, String.duplicate("k", 32)},
          {:blake3, :derive_key, "a context"}
        ],
        length <- [0, 1, 64, 1025, 5000],
        step <- [1, 63, 64, 1024] do
      input = input(length)
      steps = for at <- 0..(length - 1)//step, do: binary_part(input, at, min(step, length - at))
      state = Enum.reduce(steps, Hash.new(algorithm), &Hash.update(&2, &1))
      assert Hash.final(state) == Hash.hash(input, algorithm)
    end
  end

  test "an older state can be used again" do
    state = Hash.new() |> Hash.update("a")
    _ = Hash.update(state, "x")
    assert state |> Hash.update("b") |> Hash.final() == Hash.hash("ab")
  end

  test "modes differ, and a wrong algorithm names what is allowed" do
    digests =
      for algorithm <- [:sha256, :blake3, {:blake3, :keyed, <<0::256>>}, {:blake3, :derive_key, ""}],
          do: Hash.hash("a", algorithm)

    assert length(Enum.uniq(digests)) == 4

    for wrong <- [
          :md5,
          {:blake3, :keyed, "short"},
          {:blake3, :derive_key, <<0xFF>>},
          {:blake3, :derive_key, 1},
          "sha256",
          nil
        ] do
      assert_raise ArgumentError, fn -> Hash.hash("a", wrong) end
    end

    assert_raise ArgumentError, fn -> Hash.hash_all(["a", :b]) end
  end

  defp input(length), do: for(i <- 0..(length - 1)//1, into: <<>>, do: <<rem(i * 7 + 3, 256)>>)
end
