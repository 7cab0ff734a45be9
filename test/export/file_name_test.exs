defmodule EventSeal.Export.FileNameTest do
  use ExUnit.Case, async: true
  alias EventSeal.Export.FileName
  doctest FileName

  @ids ~w(a A ä Ä a.b a%2eb ../../etc/passwd / . .. ~ con CON nul com1 lpt9 %63on patient/1 patient/01 -x _x) ++
         ["a ", "a", "é", "e\u0301", "ſ", "K", "k"] ++
         for(n <- [82, 83, 84, 248, 249, 250, 511, 512], c <- ["a", "A", "b"], do: String.duplicate(c, n)) ++
         for(last <- ["a", "b", "A", "/"], do: String.duplicate("w", 511) <> last)

  test "two flows never share a file, also where case does not count" do
    ids = Enum.uniq(@ids)
    names = Enum.map(ids, &(&1 |> FileName.of() |> String.downcase()))
    assert length(Enum.uniq(names)) == length(ids)
  end

  test "a name is one that every file system takes" do
    for id <- @ids, name = FileName.of(id) do
      assert byte_size(name) <= 255
      assert name =~ ~r/\A[a-z0-9_%~-]+\.jsonl\z/
      refute Path.rootname(name) in ~w(con nul com1 lpt9)
    end
  end

  test "a short name says which flow it is" do
    for id <- @ids, byte_size(id) <= 83 do
      assert id |> FileName.of() |> Path.rootname() |> URI.decode() == id
    end
  end

  @tag :tmp_dir
  test "the longest id makes a file", %{tmp_dir: dir} do
    assert :ok = File.write(Path.join(dir, FileName.of(String.duplicate("Ä", 256))), "")
  end
end
