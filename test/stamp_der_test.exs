defmodule EventSeal.StampDerTest do
  use ExUnit.Case, async: true

  alias EventSeal.{Error, Stamp}
  alias EventSeal.Stamp.Der

  doctest Stamp

  defp refused?(fun) do
    fun.()
    false
  rescue
    error in Error -> error.reason == :malformed
  end

  test "values of every length come back, and in no other form" do
    for size <- [0, 1, 127, 128, 255, 256, 65_535, 65_536] do
      contents = :binary.copy(<<7>>, size)
      value = Der.value(0x04, contents)
      assert Der.one!(value, 0x04) == contents
      assert Der.all!(value <> value) == [{0x04, contents, value}, {0x04, contents, value}]
      assert refused?(fn -> Der.one!(value <> <<0>>, 0x04) end)
      assert refused?(fn -> Der.one!(value, 0x05) end)
      assert refused?(fn -> Der.all!(binary_part(value, 0, byte_size(value) - 1)) end)
    end

    for bytes <- [
          <<4>>,
          <<4, 0x80, 0, 0>>,
          <<4, 0x81, 1, 7>>,
          <<4, 0x82, 0, 1, 7>>,
          <<4, 0x83, 0, 0, 1, 7>>,
          <<4, 0x84, 0, 0, 0, 1, 7>>,
          <<0x1F, 1, 7>>
        ] do
      assert refused?(fn -> Der.all!(bytes) end), inspect(bytes)
    end
  end

  test "integers are as short as they can be" do
    for integer <- [0, 1, 127, 128, 255, 256, 32_767, 32_768, 2 ** 160] do
      assert integer |> Der.integer() |> Der.one!(0x02) |> Der.integer!() == integer
    end

    assert Der.integer!(<<0xFF>>) == -1
    assert Der.integer!(<<0x80>>) == -128

    for bytes <- ["", <<0, 1>>, <<0, 0>>, <<0xFF, 0xFF>>, <<0xFF, 0x80>>],
        do: assert(refused?(fn -> Der.integer!(bytes) end))
  end

  test "object identifiers come back, and are as short as they can be" do
    for text <- ["0.0.1", "1.2.840.113549.1.9.16.1.4", "2.999.3", "2.16.840.1.101.3.4.2.1", "1.39.16383.16384"] do
      assert {:ok, contents} = Der.oid(text)
      assert Der.oid!(contents) == text
    end

    assert Der.oid("1.2.840.113549") == {:ok, <<42, 134, 72, 134, 247, 13>>}

    for bytes <- ["", <<0x80, 1>>, <<42, 0x80, 1>>, <<42, 134>>, :binary.copy(<<129>>, 1_000_000) <> <<1>>],
        do: assert(refused?(fn -> Der.oid!(bytes) end))
  end

  test "times are of one form, and parts of a microsecond count as one" do
    assert Der.time!("19700101000000Z") == 0
    assert Der.time!("20260101000000Z") == 1_767_225_600_000_000
    assert Der.time!("19700101000001.5Z") == 1_500_000
    assert Der.time!("19700101000000.0000001Z") == 1
    assert Der.time!("19691231235959.999999Z") == -1

    for text <- [
          "",
          "197001010000Z",
          "19700101000000",
          "19700101000000.Z",
          "19700101000000.50Z",
          "19700101000000+0000",
          "19700230000000Z",
          "19700101240000Z",
          "19700101000060Z",
          "19700101000000Z\n",
          "1970010100000aZ"
        ] do
      assert refused?(fn -> Der.time!(text) end), text
    end
  end
end
