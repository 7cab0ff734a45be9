defmodule EventSeal.Import.LinesTest do
  use ExUnit.Case, async: true

  alias EventSeal.Import.Lines
  alias EventSeal.Error

  @moduletag :tmp_dir

  test "lines are the same whatever the size of the chunks they are read in", %{tmp_dir: dir} do
    text = "one\n\ntwo\r\n\r\n" <> String.duplicate("x", 40) <> "\nlast"
    expected = [{1, "one"}, {3, "two\r"}, {5, String.duplicate("x", 40)}, {6, "last"}]

    for chunk <- [1, 2, 3, 4, 5, 7, 39, 40, 41, 1_000] do
      assert {:ok, ^expected, digest} = lines(dir, text, chunk: chunk)
      assert digest == :crypto.hash(:sha256, text)
    end
  end

  test "an end of line at the end of the file begins no line", %{tmp_dir: dir} do
    assert {:ok, [], _} = lines(dir, "")
    assert {:ok, [], _} = lines(dir, "\n")
    assert {:ok, [{1, "a"}], _} = lines(dir, "a")
    assert {:ok, [{1, "a"}], _} = lines(dir, "a\n")
  end

  test "a line over the limit is named, not kept, and the next is read", %{tmp_dir: dir} do
    for chunk <- [1, 3, 10, 100] do
      assert {:ok, [{1, "1234"}, {2, :too_long}, {3, "ab"}, {4, :too_long}], _} =
               lines(dir, "1234\n12345\nab\n" <> String.duplicate("y", 30), max_line: 4, chunk: chunk)
    end
  end

  test "an error of the function ends the reading", %{tmp_dir: dir} do
    path = Path.join(dir, "file")
    File.write!(path, "a\nb\n")
    stop = {:error, Error.new(:closed)}
    assert Lines.reduce(path, 0, fn _, 0 -> stop end, chunk: 2) == stop
  end

  test "a file that is not there is named", %{tmp_dir: dir} do
    path = Path.join(dir, "none")
    assert {:error, %Error{reason: :not_found} = error} = Lines.reduce(path, [], fn _, acc -> {:ok, acc} end)
    assert Exception.message(error) =~ path
  end

  defp lines(dir, text, opts \\ []) do
    path = Path.join(dir, "lines")
    File.write!(path, text)
    Lines.reduce(path, [], &{:ok, &2 ++ &1}, opts)
  end
end
