"""manage.py refresh_source ID: reads a saved source's guests into the cache; with --watch, follows its changes for a while."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from conversions.models import SavedSource
from conversions.problems import RefusedError
from conversions.servers.refresh import refresh, tells_changes, watch

#: How long changes are followed after the last look at the source's page.
LOOKED_AT = timedelta(minutes=10)


class Command(BaseCommand):
    help = "Reads the guests of a saved source into the cache."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int)
        parser.add_argument("--watch", action="store_true", help="follow changes while somebody looks at the source")

    def handle(self, *args: Any, **options: Any) -> None:
        saved = SavedSource.objects.filter(pk=options["id"]).first()
        if saved is None:
            raise CommandError(f"there is no source {options['id']}")

        def go_on() -> bool:
            now = SavedSource.objects.filter(pk=saved.pk).only("viewed", "refresh_requested").first()
            return bool(now and now.viewed and now.viewed > timezone.now() - LOOKED_AT and not now.refresh_requested)

        try:
            count = refresh(saved)
            self.stdout.write(f"{count} guests")
            if options["watch"] and tells_changes(saved):
                watch(saved, go_on)
        except RefusedError as error:
            raise CommandError(f"{error.problem.title}. {error.problem.text} {error.problem.action}") from None
