// The types of the contract that the page uses, under short names.

import type { components } from '../../generated/schema';

type Schemas = components['schemas'];

export type Action = Schemas['Action'];
export type ActivityEntry = Schemas['ActivityEntry'];
export type ActivityPage = Schemas['ActivityPage'];
export type Calculation = Schemas['CalculationHistoryItem'];
export type CalculationPage = Schemas['CalculationHistoryPage'];
export type ChangePage = Schemas['ChangePage'];
export type Cohort = Schemas['Cohort'];
export type CohortChange = Schemas['CohortChange'];
export type CohortListItem = Schemas['CohortListItem'];
export type CohortExplanation = Schemas['CohortExplanation'];
export type CohortOverlap = Schemas['CohortOverlap'];
export type CohortSize = Schemas['CohortSize'];
export type CohortSizes = Schemas['CohortSizes'];
export type ComparedPersons = Schemas['ComparedPersons'];
export type ComparedProperty = Schemas['ComparedProperty'];
export type ConsoleSession = Schemas['ConsoleSession'];
export type CohortPreview = Schemas['CohortPreview'];
export type EventValue = Schemas['EventValue'];
export type PaginatedActionList = Schemas['PaginatedActionList'];
export type PaginatedCohortList = Schemas['PaginatedCohortList'];
export type PaginatedEventDefinitionList = Schemas['PaginatedEventDefinitionList'];
export type PaginatedProjectList = Schemas['PaginatedProjectList'];
export type PaginatedPropertyDefinitionList = Schemas['PaginatedPropertyDefinitionList'];
export type PropertyDefinition = Schemas['PropertyDefinition'];
export type CriterionExplanation = Schemas['CriterionExplanation'];
export type Person = Schemas['Person'];
export type PersonCohorts = Schemas['PersonCohorts'];
export type PersonEvent = Schemas['PersonEvent'];
export type PersonEventPage = Schemas['PersonEventPage'];
export type PersonPage = Schemas['PersonPage'];
export type PersonValue = Schemas['PersonValue'];
export type Project = Schemas['Project'];
export type Upload = Schemas['Upload'];
export type UsedIn = Schemas['UsedIn'];
export type User = Schemas['User'];
export type Webhook = Schemas['Webhook'];
export type WebhookDelivery = Schemas['WebhookDelivery'];
export type WebhookDeliveryPage = Schemas['WebhookDeliveryPage'];
export type WebhookPage = Schemas['WebhookPage'];
