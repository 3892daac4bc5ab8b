"""Which proxy stands before a server, for transports that httpx does not tell it. No I/O."""

from urllib.request import getproxies, proxy_bypass

__all__ = ["Proxies"]


class Proxies:
    """One proxy for all servers, or those of the environment as it was when this was made."""

    def __init__(self, proxy: str | None = None) -> None:
        self._may_bypass = proxy is None
        self._by_scheme = getproxies() if proxy is None else {"all": proxy}

    def before(self, scheme: str, host: str) -> str | None:
        """The URL of the proxy to take; None for none."""
        proxy = self._by_scheme.get(scheme) or self._by_scheme.get("all")
        if not proxy or (self._may_bypass and proxy_bypass(host)):
            return None
        return proxy if "://" in proxy else f"http://{proxy}"
