defmodule EventSeal.TestCertificates do
  @moduledoc false
  # A root of the tests' own and a server certificate under it, as PEM.

  @subject_alt_name {2, 5, 29, 17}
  @key {:namedCurve, {1, 2, 840, 10_045, 3, 1, 7}}

  @doc "Options: `:names` (of the server), `:validity` (two dates), `:digest`. Returns `%{root:, certificate:, key:}`."
  def make(opts \\ []) do
    validity = Keyword.get(opts, :validity, {Date.add(Date.utc_today(), -2), Date.add(Date.utc_today(), 7)})
    names = for name <- Keyword.get(opts, :names, ["localhost", {127, 0, 0, 1}]), do: name(name)
    alternative = {:Extension, @subject_alt_name, false, names}
    common = [digest: Keyword.get(opts, :digest, :sha256), key: @key]
    root = :public_key.pkix_test_root_cert('test root', common)
    peer = [extensions: [alternative], validity: {date(elem(validity, 0)), date(elem(validity, 1))}] ++ common
    made = :public_key.pkix_test_data(%{root: root, intermediates: [], peer: peer})
    {type, key} = made[:key]

    %{
      root: pem([{:Certificate, root.cert, :not_encrypted}]),
      certificate: pem([{:Certificate, made[:cert], :not_encrypted}]),
      key: pem([{type, key, :not_encrypted}])
    }
  end

  defp name({a, b, c, d}), do: {:iPAddress, <<a, b, c, d>>}
  defp name(name), do: {:dNSName, to_charlist(name)}
  defp date(date), do: {date.year, date.month, date.day}
  defp pem(entries), do: :public_key.pem_encode(entries)
end
